"""Kexec up to the call that loads the kernel. What is loaded is recorded by a program in the place of kexec(8).

The kernel of the machine that tests run on may not know kexec at all; kernels that do are booted in QEMU.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.lib.archive_members import tar_of
from tests.lib.boot_images import BASE, INITRAMFS, KERNEL, NETWORK, VERSION, boot_image, initramfs, kernel_layer
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.host_files import CERTIFICATES, host_files
from tests.lib.oci_writer import Image, write_archive, write_layout
from tests.lib.program import Ended, Program
from tests.lib.registry import registry
from tests.lib.tar_writer import file, layer

# A kernel that can load no modules needs none: then images cannot lack them.
MODULAR = Path("/proc/modules").exists()
HANDOVER = "usr/lib/bootc-live/handover"
# Like the kernel, it takes no file that somebody can write to: then there is no lease for reading (fcntl(2)).
_RECORD = """#!/usr/bin/python3
import fcntl, shutil, sys
_, _, _, kernel, initrd, cmdline = sys.argv
for path in (kernel, initrd.removeprefix("--initrd=")):
    with open(path) as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
shutil.copy(kernel, "$RECORD/kernel")
shutil.copy(initrd.removeprefix("--initrd="), "$RECORD/initrd")
with open("$RECORD/cmdline", "w", encoding="utf-8", errors="surrogateescape") as file:
    file.write(f"{cmdline}\\n")
"""


@dataclass(frozen=True)
class Loaded:
    """What would have been started: kernel, command line, and the initrd, unpacked as the kernel does."""

    where: Path
    ended: Ended

    @property
    def kernel(self) -> bytes:
        return (self.where / "kernel").read_bytes()

    @property
    def cmdline(self) -> list[str]:
        return (self.where / "cmdline").read_text().rstrip("\n").removeprefix("--command-line=").split(" ")

    @property
    def stage(self) -> dict[str, object]:
        found = json.loads(self.file(f"{HANDOVER}/stage.json").read_text())
        assert isinstance(found, dict)
        return found

    def file(self, name: str) -> Path:
        """A file of the initrd."""
        top = self.where / "unpacked"
        if not top.exists():
            top.mkdir()
            rest = (self.where / "initrd").read_bytes()
            # One archive after the other, as far as they are not compressed; those are found by their content.
            while (at := rest.find(b"070701")) >= 0:
                done = subprocess.run(
                    ["cpio", "--extract", "--quiet", "--make-directories", "--unconditional"],
                    cwd=top,
                    input=rest[at:],
                    stderr=subprocess.PIPE,
                    check=True,
                )
                assert not done.stderr, done.stderr
                rest = rest[rest.index(b"TRAILER!!!", at) + 10 :]
        return top / name


@pytest.fixture
def kexec_program(tmp_path: Path) -> Iterator[Path]:
    """Stands for kexec(8) in this namespace, which is thrown away with the builder root."""
    program, record = Path("/usr/local/sbin/kexec"), tmp_path / "record"
    record.mkdir()
    program.write_text(_RECORD.replace("$RECORD", str(record)))
    program.chmod(0o755)
    yield record
    program.unlink()


def boot(program: Program, where: Path, kargs: str) -> Ended:
    sysroot = where / "sysroot"
    sysroot.mkdir(exist_ok=True)
    return program.run("boot", "--dry-run", "--sysroot", sysroot, "--cmdline", kargs)


def loaded(program: Program, where: Path, record: Path, kargs: str) -> Loaded:
    return Loaded(record, boot(program, where, kargs).good())


def test_kernel_command_line_and_handover(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    image = boot_image(kernel_layer(kargs='kargs = ["from=image"]\n'))
    archive = write_archive(tmp_path / "image.oci", image)
    kargs = f'root=bootc-live:{archive} a="b c" bootc.kexec bootc.kexec.append=more quiet'
    found = loaded(program, tmp_path, kexec_program, kargs)
    assert found.kernel == KERNEL
    digest = found.stage["digest"]
    wanted = ["from=image", f"root=bootc-live:{archive}", 'a="b', 'c"', "quiet", "more"]
    assert found.cmdline == [*wanted, f"bootc.live.digest={digest}"]
    assert INITRAMFS in (found.where / "initrd").read_bytes()
    assert found.file(f"{HANDOVER}/whole").exists()
    copied = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{found.file(f'{HANDOVER}/image')}"], stdout=subprocess.PIPE, check=True
    )
    assert json.loads(copied.stdout)["schemaVersion"] == 2
    receipt = found.stage["receipt"]
    assert isinstance(receipt, dict)
    assert receipt["kernel"] == os.uname().release
    assert archive.exists(), "an archive on a disk is nobody's to delete"


def test_the_next_stage_takes_it_from_there(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    """The second boot, here, with the files where the kernel would have put them: it fetches nothing."""
    archive = write_archive(
        tmp_path / "image.oci", boot_image(kernel_layer(), layer(file("sbin/init", "x", mode=0o755)))
    )
    kargs = f"root=bootc-live:{archive} bootc.kexec"
    found = loaded(program, tmp_path, kexec_program, kargs)
    handover = Path("/") / HANDOVER
    handover.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["cp", "-a", found.file(HANDOVER), handover], check=True)
        archive.unlink()
        # Whatever the command line says, there is no third kernel.
        second = boot(program, tmp_path, f"{kargs} bootc.live.modules=warn").good()
        assert "bootc.kexec is ignored" in second.stderr
        assert "the next kernel was loaded" not in second.stderr
    finally:
        subprocess.run(["rm", "-r", handover], check=True)


def test_without_reuse_the_blobs_stay_behind(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    # As on a block device: a path that the next kernel can reach, too.
    archive = write_archive(tmp_path / "image.oci", boot_image())
    plain = boot(program, tmp_path, f"root=bootc-live:{archive} bootc.kexec bootc.kexec.reuse-image=0")
    assert "initramfs does not contain that archive" in plain.error("bootc.kexec.reuse-image=0", archive)
    assert not (kexec_program / "kernel").exists()


def test_archives_that_are_read_once_are_carried_whole(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar_of(docker_members("skopeo", Saved([part.tar for part in boot_image().layers]))))
    found = loaded(program, tmp_path, kexec_program, f"root=bootc-live:{archive} bootc.kexec")
    assert found.kernel == KERNEL
    assert found.file(str(archive).lstrip("/")).read_bytes() == archive.read_bytes()
    assert not found.file(f"{HANDOVER}/image").exists()
    assert found.stage["digest"] is None
    # What is known of its identity is the config's digest.
    pin = found.cmdline[-1].removeprefix("bootc.live.digest=")
    inspected = json.loads(program.run("inspect", "--json", archive).good().stdout)
    assert pin == inspected["config_digest"]
    again = boot(program, tmp_path, f"root=bootc-live:{archive} bootc.kexec bootc.live.digest={pin}").good()
    assert "can be loaded (" in again.stderr


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (boot_image(kernel_layer(initrd=None)), "has no initramfs.img beside its kernel"),
        (boot_image(kernel_layer(initrd=initramfs("init"))), "does not contain bootc-live"),
        (
            boot_image(kernel_layer(), kernel_layer(version="7.0")),
            f"has 2 kernels below /usr/lib/modules: {VERSION}, 7.0",
        ),
        (boot_image(layer(file("etc/x", ""))), "has no kernel"),
        (boot_image(kernel_layer(kargs="kargs = 1")), "kargs.d/10-test.toml"),
    ],
)
def test_images_that_cannot_go_on(
    image: Image, said: str, program: Program, kexec_program: Path, tmp_path: Path
) -> None:
    source = write_layout(tmp_path / "image", image)
    assert said in boot(program, tmp_path, f"root=bootc-live:{source} bootc.kexec").error(said)
    assert not (kexec_program / "kernel").exists()


def test_on_failure_boot_needs_modules(program: Program, tmp_path: Path) -> None:
    """Here no program loads anything; the image has modules for the running kernel, or it has not."""
    running = kernel_layer(version=os.uname().release, initrd=initramfs("init"))
    init = layer(file("sbin/init", "x", mode=0o755))
    kargs = "bootc.kexec bootc.kexec.onfail=boot"
    able = write_layout(tmp_path / "able", boot_image(running, init))
    ended = boot(program, tmp_path, f"root=bootc-live:{able} {kargs}").good()
    assert "kexec is not possible: the initramfs of" in ended.stderr
    assert "continuing with this kernel" in ended.stderr
    unable = write_layout(tmp_path / "unable", boot_image(kernel_layer(initrd=initramfs("init")), init))
    other = boot(program, tmp_path, f"root=bootc-live:{unable} {kargs}")
    if MODULAR:
        said = f"the image has no modules for {os.uname().release}"
        assert said in other.error("does not contain bootc-live")
    else:
        assert "continuing with this kernel" in other.good().stderr


def test_modules_may_be_required_without_kexec(program: Program, tmp_path: Path) -> None:
    source = write_layout(tmp_path / "image", boot_image(kernel_layer(), layer(file("sbin/init", "x", mode=0o755))))
    said = f"has no modules for the running kernel {os.uname().release}"
    warned, required = (
        boot(program, tmp_path, f"root=bootc-live:{source} bootc.live.modules={value}")
        for value in ("warn", "required")
    )
    assert (f"warning: {str(source)!r} {said}" in warned.good().stderr) is MODULAR
    if MODULAR:
        required.error(said)
    else:
        required.good()


def test_only_an_initramfs_may_start_another_kernel(program: Program, tmp_path: Path) -> None:
    assert not Path("/usr/lib/initrd-release").exists()
    source = write_layout(tmp_path / "image", boot_image())
    (tmp_path / "sysroot").mkdir()
    kargs = f"root=bootc-live:{source} bootc.kexec"
    ended = program.run("boot", "--sysroot", tmp_path / "sysroot", "--cmdline", kargs)
    assert "allowed only in an initramfs" in ended.error("bootc.kexec")


def test_an_overlong_command_line(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    source = write_layout(tmp_path / "image", boot_image())
    kargs = f"root=bootc-live:{source} bootc.kexec {'x' * 2000}"
    assert "at most 2047" in boot(program, tmp_path, kargs).error("could not boot with its command line")
    assert not (kexec_program / "kernel").exists()


def test_files_for_servers_go_along(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    source = write_layout(tmp_path / "image", boot_image())
    with host_files({CERTIFICATES / "ca.crt": "an authority\n"}):
        found = loaded(program, tmp_path, kexec_program, f"root=bootc-live:{source} bootc.kexec")
    carried = found.file("etc/bootc-live/certs.d/ca.crt")
    assert carried.read_text() == "an authority\n"
    assert carried.stat().st_mode & 0o777 == 0o600


def test_archives_that_had_to_help_out_are_carried_too(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    """What the first source gave of the same image is handed over; the rest only this initramfs has."""
    noise = layer(file("noise", os.urandom(3_000_000)))
    image = boot_image(kernel_layer(), noise)
    first = write_layout(tmp_path / "first", image)
    blob = max((first / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(blob.read_bytes()[:-9000] + bytes(9000))
    plain = write_archive(tmp_path / "image.oci", image)
    subprocess.run(["gzip", "-1", plain], check=True)
    kargs = f"root=bootc-live:{first} bootc.live.fallback={plain}.gz bootc.kexec"
    found = loaded(program, tmp_path, kexec_program, kargs)
    assert not found.file(f"{HANDOVER}/whole").exists()
    assert found.file(f"{plain}.gz".lstrip("/")).read_bytes() == Path(f"{plain}.gz").read_bytes()
    missing = found.stage["missing"]
    assert isinstance(missing, list)
    assert f"sha256:{blob.name}" in missing


def test_layouts_that_had_to_help_out_are_carried_too(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    """A layer that came from another image is in the layout alone, which is a directory.

    With one processor, layers come one after the other, the largest first.
    """
    kernel, shared, noise = kernel_layer(), layer(file("x", os.urandom(400_000))), layer(file("y", os.urandom(300_000)))
    first = write_layout(tmp_path / "first", boot_image(kernel, shared, noise))
    by_size = sorted((first / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    by_size[1].write_bytes(by_size[1].read_bytes()[:-9000] + bytes(9000))
    second = write_layout(tmp_path / "second", boot_image(kernel, shared))
    kargs = f"root=bootc-live:{first} bootc.live.fallback={second} bootc.kexec"
    processor = str(min(os.sched_getaffinity(0)))
    one_by_one = Program(program.zipapp, before=["taskset", "--cpu-list", processor])
    found = loaded(one_by_one, tmp_path, kexec_program, kargs)
    assert found.stage["missing"] == [f"sha256:{by_size[0].name}"]
    for path in second.rglob("*"):
        assert found.file(str(path).lstrip("/")).exists()


@pytest.mark.parametrize(
    ("initrd", "lacking"),
    [
        (initramfs(BASE), "bootc-live-net"),
        (initramfs(BASE, NETWORK, features=("net",)), "bootc-live-registry"),
        (initramfs(BASE, NETWORK, features=("net", "registry")), None),
    ],
)
def test_what_is_fetched_again_needs_its_modules(
    initrd: bytes, lacking: str | None, program: Program, kexec_program: Path, tmp_path: Path
) -> None:
    """The next initramfs has bootc-live, but nothing to reach a registry with: for a layout it needs none."""
    layout = write_layout(tmp_path / "layout", boot_image(kernel_layer(initrd)))
    with registry(tmp_path / "registry") as running:
        running.put(layout, "os", "stable")
        kargs = f"root=bootc-live:{running.source('os:stable')} bootc.registry.unsecure bootc.kexec"
        fetching = boot(program, tmp_path, f"{kargs} bootc.kexec.reuse-image=0")
        if lacking is None:
            fetching.good()
        else:
            fetching.error(f"lacks the dracut module {lacking}, which ")
            assert not (kexec_program / "kernel").exists()
        assert loaded(program, tmp_path, kexec_program, kargs).kernel == KERNEL


@pytest.fixture
def in_run() -> Iterator[Path]:
    """A directory where the next kernel mounts a tmpfs."""
    with TemporaryDirectory(prefix="bootc-live-test.", dir="/run") as directory:
        yield Path(directory)


def test_archives_where_the_next_kernel_mounts_something(
    in_run: Path, program: Program, kexec_program: Path, tmp_path: Path
) -> None:
    """Handed over as a layout, nobody looks for them; as they are, nobody would find them."""
    saved = in_run / "image.tar"
    saved.write_bytes(tar_of(docker_members("skopeo", Saved([part.tar for part in boot_image().layers]))))
    said = boot(program, tmp_path, f"root=bootc-live:{saved} bootc.kexec").error(saved)
    assert "the next kernel mounts another file system there" in said
    assert not (kexec_program / "kernel").exists()
    archive = write_archive(in_run / "image.oci", boot_image())
    found = loaded(program, tmp_path, kexec_program, f"root=bootc-live:{archive} bootc.kexec")
    assert found.file(f"{HANDOVER}/whole").exists()
    assert not found.file(str(archive).lstrip("/")).exists()


def test_an_archive_that_stands_in_for_a_registry(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    """It is handed over whole: the next kernel has no other way to it, and the same command line."""
    archive = write_archive(tmp_path / "image.oci", boot_image())
    dead = "docker://127.0.0.1:1/os:stable"
    kargs = f"root=bootc-live:{dead} bootc.live.fallback={archive} bootc.live.retry.tries=1 bootc.kexec"
    found = loaded(program, tmp_path, kexec_program, kargs)
    assert found.file(f"{HANDOVER}/whole").exists()
    digest = found.stage["digest"]
    assert found.cmdline[:2] == [f"root=bootc-live:{dead}@{digest}", f"bootc.live.fallback={archive}"]
    assert "cannot fall back" not in found.ended.stderr
    left_out = boot(program, tmp_path, f"{kargs} bootc.kexec.reuse-image=0")
    assert f"warning: the next kernel cannot fall back to {str(archive)!r}" in left_out.stderr
    left_out.error(dead)


def test_a_fallback_that_stays_behind_is_told(program: Program, kexec_program: Path, tmp_path: Path) -> None:
    """As long as there is something left to fetch."""
    layout = write_layout(tmp_path / "layout", boot_image())
    archive = write_archive(tmp_path / "image.oci", boot_image())
    said = f"warning: the next kernel cannot fall back to {str(archive)!r}"
    with registry(tmp_path / "registry") as running:
        running.put(layout, "os", "stable")
        sources = f"root=bootc-live:{running.source('os:stable')} bootc.registry.unsecure bootc.live.fallback={archive}"
        assert said not in loaded(program, tmp_path, kexec_program, f"{sources} bootc.kexec").ended.stderr
        again = boot(program, tmp_path, f"{sources} bootc.kexec bootc.kexec.reuse-image=0").good()
        assert again.stderr.count(said) == 1
