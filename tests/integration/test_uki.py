"""The uki verb: what is in the program that firmware starts, signed or not; whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lib.boot_images import INITRAMFS, VERSION, boot_image, initramfs, kernel_layer
from tests.lib.oci_writer import write_archive, write_layout
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.space import tmpfs
from tests.lib.tar_writer import directory, file, layer

# ukify wants a real program for UEFI as the kernel.
STUB: Final = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
OWN: Final = "root=bootc-live:docker://registry.example/os:stable"


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return STUB.read_bytes()


@pytest.fixture(scope="module")
def archive(kernel: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = boot_image(kernel_layer(kernel=kernel, kargs='kargs = ["quiet"]\n'))
    return write_archive(tmp_path_factory.mktemp("uki") / "image.oci", image)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and its certificate."""
    where = tmp_path_factory.mktemp("keys")
    key, certificate = where / "sign.key", where / "sign.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*argv, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


def sections(uki: Path) -> dict[str, Any]:
    """What systemd's own tool finds in it."""
    argv = ["ukify", "--json=short", "--all", "inspect", str(uki)]
    return dict(json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_is_in_it(program: Program, archive: Path, kernel: bytes, tmp_path: Path) -> None:
    """Quotes and blanks of the command line arrive as they were typed."""
    uki = tmp_path / "os.efi"
    ended = program.run("uki", archive, "-o", uki, "--append", f'{OWN} a="b  c"').good()
    found = sections(uki)
    cmdline = found[".cmdline"]["text"]
    digest = cmdline.rpartition("=")[2]
    assert ended.stdout == f"{cmdline}\n"
    assert cmdline == f'quiet {OWN}@{digest} a="b  c" bootc.live.digest={digest}'
    assert found[".linux"]["sha256"] == sha256(kernel)
    assert found[".initrd"]["sha256"] == sha256(INITRAMFS)
    assert found[".uname"]["text"] == VERSION
    # Not of the machine it was made on.
    assert f"Linux {VERSION}, image {digest.partition(':')[2][:12]}" in found[".osrel"]["text"]
    assert "Debian" not in found[".osrel"]["text"]
    assert uki.stat().st_mode & 0o777 == 0o644


def test_rootfs_is_in_it_too(program: Program, archive: Path, tmp_path: Path) -> None:
    """Behind the initramfs, from a multiple of four bytes on, as the kernel wants archives."""
    uki = tmp_path / "os.efi"
    site = tmp_path / "site.cpio"
    site.write_bytes(initramfs("etc/bootc-live/registries.yaml", plain=True))
    options = ("--rootfs", "--add-initrd", site)
    told = json.loads(program.run("uki", archive, "-o", uki, *options, "--json").good().stdout)
    program.run("netboot", archive, "-o", tmp_path / "os", *options).good()
    initrds = [INITRAMFS, site.read_bytes(), (tmp_path / "os/rootfs.cpio").read_bytes()]
    assert sections(uki)[".initrd"]["sha256"] == sha256(b"".join(one + bytes(-len(one) % 4) for one in initrds))
    assert told["cmdline"].startswith("quiet root=bootc-live:/rootfs bootc.live.digest=sha256:")
    assert (told["signed"], told["size"]) == (False, uki.stat().st_size)


def test_same_bytes_every_time(program: Program, archive: Path, tmp_path: Path) -> None:
    made = []
    for name in ("a.efi", "b.efi"):
        program.run("uki", archive, "-o", tmp_path / name, "--rootfs").good()
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_signed(program: Program, archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    key, certificate = keys
    uki = tmp_path / "os.efi"
    signing = ("--sign-key", key, "--sign-cert", certificate)
    assert "signed" in program.run("uki", archive, "-o", uki, "--rootfs", *signing).good().stderr
    subprocess.run(["sbverify", "--cert", certificate, uki], check=True, capture_output=True)
    changed = bytearray(uki.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed.efi").write_bytes(changed)
    done = subprocess.run(
        ["sbverify", "--cert", certificate, tmp_path / "changed.efi"], check=False, capture_output=True
    )
    assert done.returncode != 0


def test_registry_without_root(nobody: Program, kernel: bytes, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A user of no privileges reads the image, makes and signs the UKI."""
    home = tmp_path / "home"
    home.mkdir()
    for name, path in zip(("key", "crt"), keys, strict=True):
        (home / name).write_bytes(path.read_bytes())
    for path in (home, *home.iterdir()):
        os.chown(path, 65534, 65534)
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    layout = write_layout(tmp_path / "layout", boot_image(kernel_layer(kernel=kernel)))
    with registry(tmp_path / "registry") as running:
        digest = running.put(layout, "os", "stable")
        signing = ("--sign-key", home / "key", "--sign-cert", home / "crt")
        source = running.source("os:stable")
        nobody.run("uki", source, "--unsecure", "-o", home / "os.efi", *signing).good()
    assert sections(home / "os.efi")[".cmdline"]["text"] == (
        f"root=bootc-live:{source}@{digest} bootc.registry.unsecure bootc.live.digest={digest}"
    )
    assert (home / "os.efi").stat().st_uid == 65534


def test_image_with_a_uki(program: Program, kernel: bytes, tmp_path: Path) -> None:
    """It is taken apart, and another one is made of it: its own arguments come first, but those for a disk."""
    first = tmp_path / "first.efi"
    argv = ["ukify", "build", f"--linux={STUB}", "--initrd=/dev/stdin", "--cmdline=console=tty0 ro", "--uname=7.7"]
    subprocess.run([*argv, f"--output={first}"], input=INITRAMFS, check=True, capture_output=True)
    names = [directory(name) for name in ("boot/", "boot/EFI/", "boot/EFI/Linux/")]
    image = boot_image(layer(*names, file("boot/EFI/Linux/os.efi", first.read_bytes())))
    program.run("uki", write_layout(tmp_path / "layout", image), "-o", tmp_path / "os.efi", "--rootfs").good()
    found = sections(tmp_path / "os.efi")
    assert found[".cmdline"]["text"].startswith("console=tty0 root=bootc-live:/rootfs bootc.live.digest=")
    assert found[".linux"]["sha256"] == sha256(kernel)
    assert found[".uname"]["text"] == "7.7"


@dataclass(frozen=True)
class Failure:
    """What is asked of the verb, and what its error says; `{a}` is the archive, `{t}` the test's directory."""

    name: str
    arguments: tuple[str, ...]
    told: tuple[str, ...]
    hidden: str = ""


FAILURES = (
    Failure("no ukify", ("{a}", "--rootfs"), ("'ukify' is missing", "install systemd-ukify"), "/usr/bin/ukify"),
    Failure("no stub", ("{a}", "--rootfs"), ("stub for UEFI", "install systemd-boot-efi"), str(STUB)),
    Failure("nobody knows where it is", ("{a}",), ("'{a}' is a file of this machine", "--rootfs")),
    Failure("key alone", ("{a}", "--rootfs", "--sign-key", "{t}/key"), ("must be used together",)),
    Failure("certificate alone", ("{a}", "--rootfs", "--sign-cert", "{t}/key"), ("must be used together",)),
    Failure(
        "no such key", ("{a}", "--rootfs", "--sign-key", "{t}/no", "--sign-cert", "{t}/key"), ("'--sign-key {t}/no'",)
    ),
    Failure("no key in it", ("{a}", "--rootfs", "--sign-key", "{t}/key", "--sign-cert", "{t}/key"), ("ukify exited",)),
    Failure(
        "no sbsign",
        ("{a}", "--rootfs", "--sign-key", "{t}/key", "--sign-cert", "{t}/key"),
        ("'sbsign' is missing", "install sbsigntool"),
        "/usr/bin/sbsign",
    ),
    Failure("no kernel for UEFI", ("{t}/other.oci", "--rootfs"), ("is not a UEFI program",)),
    Failure("foreign initramfs", ("{t}/foreign.oci", "--rootfs"), ("does not contain bootc-live",)),
    Failure("exists", ("{a}", "--rootfs", "-o", "{t}/key"), ("'{t}/key' exists",)),
    Failure("no parent", ("{a}", "--rootfs", "-o", "{t}/no/os.efi"), ("'{t}/no/os.efi'", "No such file")),
    Failure("read-only", ("{a}", "--rootfs", "-o", "{t}/ro/os.efi"), ("'{t}/ro/os.efi'", "Read-only")),
    Failure("no room", ("{a}", "--rootfs", "-o", "{t}/small/os.efi"), ("ukify exited", "No space left")),
)


@pytest.fixture(scope="module")
def host_config(kernel: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with what the failures need."""
    where = tmp_path_factory.mktemp("surroundings")
    write_archive(where / "foreign.oci", boot_image(kernel_layer(initramfs("usr/bin/bash"), kernel=kernel)))
    write_archive(where / "other.oci", boot_image())
    (where / "key").write_text("nothing\n")
    with tmpfs(where / "ro", "size=1M,ro"), tmpfs(where / "small", "size=64K"):
        yield where


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name)
def test_errors_leave_nothing(row: Failure, program: Program, archive: Path, host_config: Path) -> None:
    hide = 'mount --bind /dev/null "$0"; exec "$@"'
    if row.hidden.startswith("/usr/lib"):
        hide = 'mount -t tmpfs tmpfs "${0%/*}"; exec "$@"'
    before = ("unshare", "--mount", "sh", "-ec", hide, row.hidden)
    there = sorted(os.walk(host_config))
    words = [word.format(a=archive, t=host_config) for word in row.arguments]
    words += [] if "-o" in words else ["-o", str(host_config / "os.efi")]
    runs = Program(program.zipapp, before=before) if row.hidden else program
    told = runs.run("uki", *words).error()
    assert sorted(os.walk(host_config)) == there
    for text in row.told:
        assert text.format(a=archive, t=host_config) in told


def test_full_scratch(program: Program, archive: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "scratch", "size=200K") as scratch:
        told = program.run("uki", archive, "--rootfs", "-o", tmp_path / "os.efi", env={"TMPDIR": str(scratch)}).error()
        assert "TMPDIR" in told
        assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch"]
