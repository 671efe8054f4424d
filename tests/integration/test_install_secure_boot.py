"""Secure Boot of installed systems: what is signed by whom, what is refused, keys that stay and that do not."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.boot_images import INITRAMFS, VERSION, kernel_layer
from tests.lib.disk_fixtures import empty as one
from tests.lib.disk_machine import Machine, disk_image
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram
from tests.lib.needs import needs
from tests.lib.oci_writer import Image, write_archive
from tests.lib.tar_writer import directory, file, layer

__all__ = ["one"]

EFI: Final = Path("/usr/lib/systemd/boot/efi")
# A program that Debian has signed, taken for a kernel.
SIGNED: Final = EFI / "systemd-bootx64.efi.signed"
UNSIGNED: Final = EFI / "systemd-bootx64.efi"
SHIM: Final = ("/usr/lib/shim/shimx64.efi.signed", "/usr/lib/shim/mmx64.efi.signed")
LONG: Final = pytest.mark.long
GRUB: Final = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"


def members(*paths: str | Path) -> list[bytes]:
    """Files of this system for a layer."""
    names = [str(path).lstrip("/") for path in paths]
    above = sorted(
        {"/".join(name.split("/")[:depth]) + "/" for name in names for depth in range(1, name.count("/") + 1)}
    )
    return [*map(directory, above), *(file(name, Path(f"/{name}").read_bytes()) for name in names)]


def secure_image(number: int, *loaders: str | Path, kernel: Path = SIGNED) -> Image:
    """An image with programs of this system, and one of them for a kernel."""
    return disk_image(number, layer(*members(*loaders)), kernel_layer(kernel=kernel.read_bytes()))


def uki_image(number: int, uki: Path) -> Image:
    """An image that brings a unified kernel image."""
    folders = ("boot/", "boot/EFI/", "boot/EFI/Linux/")
    brought = layer(*map(directory, folders), file("boot/EFI/Linux/os.efi", uki.read_bytes()))
    return disk_image(number, layer(*members(UNSIGNED)), brought)


@dataclass(frozen=True)
class Keys:
    """A key and its certificate (PEM)."""

    key: Path
    certificate: Path

    @property
    def options(self) -> tuple[str | Path, ...]:
        """The options that name them."""
        return "--sb-key", self.key, "--sb-cert", self.certificate

    def signed(self, path: Path) -> bool:
        """Whether a program has its signature."""
        argv: list[str | Path] = ["sbverify", "--cert", self.certificate, path]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, Keys]:
    """Those of the machine's owner, and of the image's vendor."""
    where = tmp_path_factory.mktemp("keys")
    made = []
    for name in ("own", "vendor"):
        pair = Keys(where / f"{name}.key", where / f"{name}.crt")
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        run(*argv, "-keyout", pair.key, "-out", pair.certificate)
        made.append(pair)
    return made[0], made[1]


def signed_uki(vendor: Keys, where: Path, cmdline: str = "quiet of=vendor") -> Path:
    """A unified kernel image as a distribution makes it; nothing in it is this machine's."""
    initrd, made = where / "initrd", where / "os.efi"
    initrd.write_bytes(INITRAMFS)
    argv = ["ukify", "build", f"--linux={UNSIGNED}", f"--initrd={initrd}", f"--cmdline={cmdline}", f"--uname={VERSION}"]
    argv += ["--os-release=ID=vendor\nVERSION_ID=1\n", f"--secureboot-private-key={vendor.key}"]
    run(*argv, f"--secureboot-certificate={vendor.certificate}", f"--output={made}")
    return made


def cmdline_of(program: Path) -> str:
    """The section of a UEFI program that has kernel arguments."""
    found = json.loads(run("ukify", "inspect", program, "--json=short"))
    return str(found[".cmdline"]["text"])


def has_key(*tops: Path) -> bool:
    """Whether a private key is anywhere."""
    return any(b"PRIVATE KEY" in path.read_bytes() for top in tops for path in top.rglob("*") if path.is_file())


@needs("sbverify")
@pytest.mark.parametrize(
    ("bootloader", "program_of_it"), [("systemd-boot", SIGNED), pytest.param("grub", Path(GRUB), marks=LONG)]
)
def test_secure_boot_of_the_distribution(
    bootloader: str, program_of_it: Path, one: Machine, program: ForkedProgram
) -> None:
    """Firmware starts shim, and that the boot loader and the kernel, all of them as they were signed."""
    one.offer(secure_image(1, program_of_it, *SHIM))
    program.run(*one.install, "--secure-boot", "--bootloader", bootloader).good()
    (kernel,) = one.boot.glob("bootc-live/*/vmlinuz")
    folder = one.boot / "EFI/BOOT"
    for path, original in (
        (folder / "BOOTX64.EFI", Path(SHIM[0])),
        (folder / "grubx64.efi", program_of_it),
        (kernel, SIGNED),
    ):
        assert path.read_bytes() == original.read_bytes()
        assert "signature 1" in run("sbverify", "--list", path)
    before = one.entries
    one.offer(secure_image(2, program_of_it, *SHIM, kernel=UNSIGNED))
    told = f"the kernel of '{one.source}' is not signed for Secure Boot"
    program.run("upgrade", *one.options).error(told)
    assert one.entries == before
    one.offer(secure_image(3, program_of_it, *SHIM))
    program.run("upgrade", *one.options).good()
    assert len(one.entries) == len(before) + 1


@pytest.mark.parametrize(
    ("loaders", "kernel", "options", "told"),
    [
        pytest.param((SIGNED,), SIGNED, "", "the image has no signed systemd-boot with shim", marks=LONG),
        ((*SHIM,), SIGNED, "", "the image has no signed systemd-boot with shim"),
        ((GRUB,), SIGNED, "--bootloader grub", "the image has no signed GRUB for UEFI with shim"),
        ((SIGNED, *SHIM), UNSIGNED, "", "is not signed for Secure Boot"),
        ((SIGNED, *SHIM), SIGNED, "--bootloader uki", "Secure Boot with unified kernel images needs a key"),
        ((SIGNED, *SHIM), SIGNED, "--sb-key {key} --sb-cert {cert}", "with an own key needs unified kernel images"),
        pytest.param((SIGNED,), SIGNED, "--sb-enroll", "--sb-enroll is of no use without a key", marks=LONG),
        pytest.param((SIGNED,), SIGNED, "--keep-key", "--keep-key is of no use without a key", marks=LONG),
        (
            (SIGNED,),
            SIGNED,
            "--bootloader uki --sb-key {key} --sb-cert {cert} --sb-enroll --sb-db-cert {key}",
            "is no certificate",
        ),
    ],
)
def test_secure_boot_is_refused(
    loaders: tuple[str | Path, ...],
    kernel: Path,
    options: str,
    told: str,
    one: Machine,
    keys: tuple[Keys, Keys],
    program: ForkedProgram,
) -> None:
    one.offer(secure_image(1, *loaders, kernel=kernel))
    words = options.format(key=keys[0].key, cert=keys[0].certificate).split()
    program.run(*one.install, "--secure-boot", *words).error(told)
    assert not list(one.boot.rglob("*.[eE][fF][iI]"))
    assert not (one.store / "machine.json").exists()


@needs("sbverify", "ukify")
def test_signed_uki_of_the_image(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """It stays as it is; where its root is, an addon says that the owner has signed."""
    own, vendor = keys
    uki = signed_uki(vendor, tmp_path)
    one.offer(uki_image(1, uki))
    options = ["--bootloader", "uki", "--secure-boot", *own.options, "--karg", "mine=1"]
    program.run(*one.install, *options).good()
    (entry,) = (one.boot / "loader/entries").glob("*.conf")
    lines = dict(line.split(" ", 1) for line in entry.read_text().splitlines())
    copied = one.boot / lines["efi"][1:]
    assert copied.read_bytes() == uki.read_bytes()
    assert (vendor.signed(copied), own.signed(copied)) == (True, False)
    (addon,) = copied.parent.glob(f"{copied.name}.extra.d/*.addon.efi")
    assert own.signed(addon)
    assert own.signed(one.boot / "EFI/BOOT/BOOTX64.EFI")
    record = json.loads((one.deployments / "1/deployment.json").read_text())
    said = cmdline_of(addon)
    assert f"root=bootc-live:deployment:{one.settings['root']}:1@{record['root']}" in said
    assert " mine=1 " in said
    status = json.loads(program.run("status", "--json", *one.options).good().stdout)["disk"]
    assert [row["health"] for row in status["deployments"]] == ["good"]
    program.run("verify", *one.options).good()
    # The key did not stay, so nothing can be signed here.
    assert not has_key(one.disk, one.boot)
    one.offer(uki_image(2, uki))
    program.run("upgrade", *one.options).error("the key did not stay on it")
    assert one.entries == ["bootc-live-1-1"]


@needs("sbverify", "ukify")
def test_kept_key_signs_upgrades(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """From an image without to one with a unified kernel image, and back: all are in one menu."""
    own, vendor = keys
    one.offer(secure_image(1, SIGNED))
    program.run(*one.install, "--bootloader", "uki", "--secure-boot", *own.options, "--keep-key").good()
    kept = one.store / "keys"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert (kept / "key.pem").read_bytes() == own.key.read_bytes()
    assert stat.S_IMODE((kept / "key.pem").stat().st_mode) == 0o600
    assert not has_key(one.boot)
    uki = signed_uki(vendor, tmp_path)
    one.offer(uki_image(2, uki))
    program.run("upgrade", *one.options).good()
    one.offer(secure_image(3, SIGNED))
    program.run("upgrade", *one.options).good()
    made = sorted((one.boot / "EFI/Linux").iterdir())
    assert [path.name for path in made] == ["bootc-live-1-1.efi", "bootc-live-3-3+3.efi"]
    addons = [path for path in one.boot.rglob("*.addon.efi") if path.is_file()]
    assert all(own.signed(path) for path in (*made, *addons))
    assert len(addons) == 1
    program.run("rollback", "--to", "2", *one.options).good()
    # What systemd's tool would start is what is said here.
    environment = {"PATH": "/usr/bin", "SYSTEMD_RELAX_ESP_CHECKS": "1"}
    argv = ["bootctl", "list", "--json=short", f"--esp-path={one.boot}"]
    listed = json.loads(subprocess.run(argv, env=environment, capture_output=True, check=True).stdout)
    assert [row["id"] for row in listed] == ["bootc-live-4-2.conf", "bootc-live-3-3.efi", "bootc-live-1-1.efi"]
    assert [row["isDefault"] for row in listed] == [True, False, False]
    program.run("prune", "--keep", "0", *one.options).good()
    assert len([path for path in one.boot.rglob("*.addon.efi") if path.is_file()]) == 1


@needs("sbverify", "ukify")
def test_repair(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """What the machine has made, it makes and signs again with the key that it keeps; without that, nothing changes."""
    own, vendor = keys
    one.offer(uki_image(1, signed_uki(vendor, tmp_path)))
    program.run(*one.install, "--bootloader", "uki", "--secure-boot", *own.options, "--keep-key").good()
    second = write_archive(tmp_path / "second.oci", secure_image(2, SIGNED))
    program.run("switch", second, *one.options).good()
    (entry,) = (one.boot / "loader/entries").glob("*.conf")
    (made,) = (one.boot / "EFI/Linux").glob("*.efi")

    def addon() -> Path:
        (found,) = (path for path in one.boot.rglob("*.addon.efi") if path.is_file())
        return found

    before = cmdline_of(made), cmdline_of(addon())
    damages: list[Callable[[], object]] = [
        lambda: entry.write_text(""),
        lambda: addon().write_bytes(b"other"),
        lambda: addon().unlink(),
        lambda: addon().parent.with_name("linux.efi").write_bytes(b"other"),
        lambda: made.write_bytes(b""),
        lambda: made.write_bytes(made.read_bytes()[:4096]),
    ]
    for damage in damages:
        damage()
        assert program.run("fsck", *one.options).status == 4
        said = program.run("fsck", "--repair", *one.options)
        assert said.status == 0, said.stdout + said.stderr
        assert (cmdline_of(made), cmdline_of(addon())) == before
        assert own.signed(made)
        assert own.signed(addon())
        assert vendor.signed(addon().parent.with_name("linux.efi"))
    shutil.move(one.store / "keys", tmp_path)
    for damage in (damages[0], damages[-1]):
        damage()
    content = state_of(one.boot)
    said = program.run("fsck", "--repair", *one.options)
    assert (said.status, said.stdout.count("it is damaged"), said.stdout.count("install it anew")) == (4, 2, 2)
    assert state_of(one.boot) == content


def state_of(top: Path) -> dict[Path, bytes]:
    """All files of a directory."""
    return {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}


@needs("ukify")
@pytest.mark.parametrize(
    ("was", "is_now", "told"),
    [
        (b"LoaderInfo: systemd-stub 2", b"LoaderInfo: systemd-stub 1", "takes no arguments from an addon"),
        (b"quiet of=vendor", b'"uiet of=vendor', "swallow others"),
        (b"quiet of=vendor", b"quiet -- vendor", "swallow others"),
    ],
)
def test_a_uki_without_use_for_addons_is_refused(
    was: bytes, is_now: bytes, told: str, one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path
) -> None:
    own, vendor = keys
    uki = signed_uki(vendor, tmp_path)
    uki.write_bytes(uki.read_bytes().replace(was, is_now))
    one.offer(uki_image(1, uki))
    program.run(*one.install, "--bootloader", "uki", *own.options).error(told)


def der(pem: Path) -> bytes:
    """A certificate as firmware has it."""
    argv: list[str | Path] = ["openssl", "x509", "-in", pem, "-outform", "DER"]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@needs("openssl")
def test_files_for_enrolment(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """Each is a list of certificates with the owner's signature, which OpenSSL reads and accepts."""
    own, vendor = keys
    one.offer(secure_image(1, SIGNED))
    options = ["--bootloader", "uki", "--secure-boot", *own.options, "--sb-enroll", "--sb-db-cert", vendor.certificate]
    program.run(*one.install, *options).good()
    found = {path.name: path.read_bytes() for path in (one.boot / "loader/keys/auto").iterdir()}
    assert sorted(found) == ["KEK.auth", "PK.auth", "db.auth"]
    database = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
    for name, content in found.items():
        length = int.from_bytes(content[16:20], "little")
        listed = content[16 + length :]
        assert [der(pair.certificate) in listed for pair in keys] == [True, name == "db.auth"]
        variable = name.removesuffix(".auth")
        guid = database if variable == "db" else uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
        signed, message = tmp_path / "signed", tmp_path / "message"
        signed.write_bytes(variable.encode("utf-16-le") + guid.bytes_le + b"\x27\0\0\0" + content[:16] + listed)
        # Firmware wants the inner part of a message only.
        inner = content[40 : 16 + length]
        wrapped = bytes.fromhex("06092a864886f70d010702a082") + len(inner).to_bytes(2, "big") + inner
        message.write_bytes(b"\x30\x82" + len(wrapped).to_bytes(2, "big") + wrapped)
        verify = ["openssl", "smime", "-verify", "-inform", "DER", "-binary", "-noverify", "-out", "/dev/null"]
        run(*verify, "-in", message, "-content", signed)
    assert not has_key(one.disk, one.boot)
