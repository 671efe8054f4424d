"""State on a disk: /var and the changes to /etc outlive a boot; without the disk a boot does as it was told."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.booted import Booted, booted
from tests.lib.disks import loop, mountable, mounted, probed, run
from tests.lib.program import Program
from tests.lib.small_image import BASE, UPPER, VAR_MTIME, archive_of
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list

MAKERS: Final = {
    "ext4": ("mkfs.ext4", "-q", "-L"),
    "xfs": ("mkfs.xfs", "-q", "-L"),
}
SIZE: Final = {"ext4": 32, "xfs": 320, "vfat": 16}
LABEL: Final = "STATE"


@dataclass(frozen=True)
class Disk:
    """A disk with one file system: its file, its loop device and its kind."""

    file: Path
    device: str
    kind: str

    @property
    def kargs(self) -> str:
        """What asks for it, by its UUID: others may have the same label."""
        return f"bootc.live.state=UUID={probed(self.device)['ID_FS_UUID']}"

    @contextmanager
    def there(self, where: Path) -> Iterator[Path]:
        """What is on it, outside of any boot."""
        with mounted(self.device, where) as place:
            yield place


@contextmanager
def disk(kind: str, where: Path, *loop_options: str) -> Iterator[Disk]:
    """A new disk with an empty file system."""
    image = where / f"disk.{kind}"
    with image.open("wb") as content:
        content.truncate(SIZE[kind] * 2**20)
    if kind == "vfat":
        run("mkfs.vfat", "-n", LABEL, image)
    else:
        run(*MAKERS[kind], LABEL, image)
    with loop(image, *loop_options) as device:
        yield Disk(image, device, kind)


def needs(kind: str) -> None:
    """Skips where the kernel has no such file system."""
    if not mountable(kind):
        pytest.skip(f"this kernel has no {kind}")


@pytest.mark.parametrize("kargs", ["", "rw"])
@pytest.mark.parametrize("kind", MAKERS)
def test_second_boot_finds_what_the_first_left(
    kind: str, kargs: str, program: Program, small: Path, tmp_path: Path
) -> None:
    needs(kind)
    with disk(kind, tmp_path) as made:
        cmdline = f"root=bootc-live:{small} {made.kargs} {kargs}"
        with booted(program, cmdline, tmp_path / "first") as first:
            assert {place: mount.kind for place, mount in first.mounts.items()} == {
                "/": "overlay" if "rw" in kargs.split() else "erofs",
                "/etc": "overlay",
                "/var": kind,
            }
            info = (first.root / "var").stat()
            assert (oct(info.st_mode & 0o7777), info.st_uid, info.st_mtime) == ("0o711", 5, VAR_MTIME)
            (first.root / "etc/hostname").write_text("mine\n")
            (first.root / "etc/shadow").unlink()
            (first.root / "var/lib/mine").write_text("kept\n")
            (first.root / "var/lib/suid").unlink()
            before = [tree_list(first.root / part) for part in ("etc", "var")]
        with booted(program, cmdline, tmp_path / "second") as second:
            assert (second.root / "etc/hostname").read_text() == "mine\n"
            for part, want in zip(("etc", "var"), before, strict=True):
                assert not differences(want, tree_list(second.root / part))
            assert not second.receipt["warnings"]


def test_parts_that_are_not_writable_stay_so(program: Program, small: Path, tmp_path: Path) -> None:
    """State changes where things are kept, not what can be written."""
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        kargs = f"root=bootc-live:{small} {made.kargs}"
        with booted(program, f"{kargs} bootc.live.etc.rw=0", tmp_path / "etc") as root:
            assert {place: mount.kind for place, mount in root.mounts.items()} == {"/": "erofs", "/var": "ext4"}
        with booted(program, f"{kargs} bootc.live.var.rw=0", tmp_path / "var") as root:
            assert {place: mount.kind for place, mount in root.mounts.items()} == {"/": "erofs", "/etc": "overlay"}
        with booted(program, f"{kargs} bootc.live.etc.rw=0 bootc.live.var.rw=0", tmp_path / "none") as root:
            assert {place: mount.kind for place, mount in root.mounts.items()} == {"/": "erofs"}
            (warning,) = root.receipt["warnings"]
            assert "is not used" in warning


def test_newer_image(program: Program, tmp_path: Path) -> None:
    """/etc shows the newer image but for what was changed; /var is what it has become."""
    needs("ext4")
    old = archive_of(tmp_path / "old.oci", BASE, UPPER)
    changes = layer(
        file("etc/hostname", "newer\n"),
        file("etc/shadow", "newer\n"),
        file("etc/more", "newer\n"),
        file("etc/ssl/more", "newer\n"),
        file("var/lib/one", "newer\n"),
        file("var/more", "newer\n"),
    )
    new = archive_of(tmp_path / "new.oci", BASE, UPPER, changes)
    with disk("ext4", tmp_path) as made:
        with booted(program, f"root=bootc-live:{old} {made.kargs}", tmp_path / "first") as first:
            (first.root / "etc/hostname").write_text("mine\n")
            (first.root / "etc/ssl/mine").write_text("mine\n")
            (first.root / "var/lib/one").write_text("mine\n")
        with booted(program, f"root=bootc-live:{new} {made.kargs}", tmp_path / "second") as second:
            etc, var = second.root / "etc", second.root / "var"
            assert (etc / "hostname").read_text() == (etc / "ssl/mine").read_text() == "mine\n"
            for name in ("shadow", "more", "ssl/more"):
                assert (etc / name).read_text() == "newer\n"
            assert (etc / "ssl/old").read_text() == "from the image\n"
            assert (var / "lib/one").read_text() == "mine\n"
            assert not (var / "more").exists()


def in_ram(made: Booted, *said: str) -> None:
    """A boot that did without the disk, and said so."""
    assert {place: mount.kind for place, mount in made.mounts.items()} == {
        "/": "erofs",
        "/etc": "overlay",
        "/var": "tmpfs",
    }
    (warning,) = made.receipt["warnings"]
    for text in said:
        assert text in warning


@dataclass(frozen=True)
class Bad:
    """A device that cannot be used: the argument, and what is said of it."""

    asked: str
    said: str


@contextmanager
def bad(name: str, where: Path) -> Iterator[Bad]:
    """One kind of device that cannot be used."""
    missing = uuid.uuid4()
    if name == "missing":
        yield Bad(f"UUID={missing}", f"there is no block device UUID={missing}")
    elif name == "missing name":
        yield Bad("/dev/missing", "there is no block device /dev/missing")
    elif name == "no device":
        yield Bad("/dev/null", "/dev/null is not a block device")
    elif name == "empty":
        image = where / "empty"
        image.write_bytes(bytes(2**20))
        with loop(image) as device:
            yield Bad(device, f"{device} has no known file system")
    elif name == "vfat":
        with disk("vfat", where) as made:
            wrong = f"vfat on {made.device} cannot hold owners and extended attributes"
            yield Bad(made.device, wrong if mountable("vfat") else f"cannot mount {made.device}: ")
    elif name == "read-only":
        with disk("ext4", where, "--read-only") as made:
            yield Bad(made.device, f"{made.device} is read-only")
    elif name == "damaged":
        with disk("ext4", where) as made:
            # Without the root directory.
            run("debugfs", "-w", "-R", "clri <2>", made.device)
            yield Bad(made.device, f"cannot mount {made.device}: ")
    elif name == "in use":
        with disk("ext4", where) as made, made.there(where / "elsewhere"):
            yield Bad(made.device, f"{made.device} cannot be used: Device or resource busy")


BAD = ("missing", "missing name", "no device", "empty", "vfat", "read-only", "damaged", "in use")


@pytest.mark.parametrize("name", BAD)
def test_without_the_disk(name: str, program: Program, small: Path, tmp_path: Path) -> None:
    """A warning and RAM, or an error where it is required; the same words in both."""
    with bad(name, tmp_path) as device:
        kargs = f"root=bootc-live:{small} bootc.live.state={device.asked}"
        with booted(program, kargs, tmp_path / "boot") as made:
            in_ram(made, f"bootc.live.state={device.asked}", device.said)
        root = tmp_path / "root"
        root.mkdir()
        ended = program.run("boot", "--cmdline", f"{kargs} bootc.live.state.required", "--sysroot", root)
        ended.error(f"bootc.live.state={device.asked}", device.said)
        assert not list(root.iterdir())


def test_var_that_does_not_fit(program: Program, tmp_path: Path) -> None:
    """An error, required or not: the next boot would find the same. What was copied is gone again."""
    needs("ext4")
    large = layer(file("var/large", os.urandom(40 * 2**20)))
    archive = archive_of(tmp_path / "image.oci", BASE, large)
    with disk("ext4", tmp_path) as made:
        root = tmp_path / "root"
        root.mkdir()
        ended = program.run("boot", "--cmdline", f"root=bootc-live:{archive} {made.kargs}", "--sysroot", root)
        told = ended.error(made.kargs, made.device, "it is full")
        assert "larger partition" in told
        with made.there(tmp_path / "there") as place:
            assert [path.name for path in (place / "bootc-live").iterdir() if path.name.startswith("var")] == []
        small = archive_of(tmp_path / "small.oci", BASE)
        with booted(program, f"root=bootc-live:{small} {made.kargs}", tmp_path / "boot") as good:
            assert good.mounts["/var"].kind == "ext4"


def test_disk_that_has_become_full(program: Program, small: Path, tmp_path: Path) -> None:
    """It can still be booted from, and tidied up."""
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        kargs = f"root=bootc-live:{small} {made.kargs}"
        with booted(program, kargs, tmp_path / "first") as first, (first.root / "var/fill").open("wb", 0) as fill:
            for size in (65536, 4096, 512, 1):
                with suppress(OSError):
                    while fill.write(bytes(size)):
                        pass
            for number in range(100_000):
                try:
                    (first.root / f"var/{number}").touch()
                except OSError:
                    break
        with booted(program, kargs, tmp_path / "second") as second:
            assert second.mounts["/var"].kind == "ext4"
            (second.root / "var/fill").unlink()
            (second.root / "etc/new").write_text("x")


def test_copy_that_was_broken_off(program: Program, small: Path, tmp_path: Path) -> None:
    """Power that fails while /var is copied: the next boot begins anew."""
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        with made.there(tmp_path / "there") as place:
            part = place / "bootc-live/var.part/lib"
            part.mkdir(parents=True)
            (part / "half").write_text("half\n")
        with booted(program, f"root=bootc-live:{small} {made.kargs}", tmp_path / "boot") as root:
            assert not (root.root / "var/lib/half").exists()
            assert (root.root / "var/lib/one").read_text() == "two names\n"
        with made.there(tmp_path / "there") as place:
            assert sorted(path.name for path in (place / "bootc-live").iterdir()) == ["etc", "seed.json", "var"]


def test_journal_is_replayed(program: Program, small: Path, tmp_path: Path) -> None:
    """A disk that was never unmounted, as after a power cut."""
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        cut = tmp_path / "cut"
        with booted(program, f"root=bootc-live:{small} {made.kargs}", tmp_path / "first") as first:
            (first.root / "var/mine").write_text("kept\n")
            run("sync", "-f", first.root / "var/mine")
            run("cp", "--sparse=always", made.file, cut)
        assert "needs_recovery" in run("dumpe2fs", "-h", cut)
        with (
            loop(cut) as device,
            booted(program, f"root=bootc-live:{small} bootc.live.state={device}", tmp_path / "second") as second,
        ):
            assert (second.root / "var/mine").read_text() == "kept\n"
            assert second.receipt["warnings"] == []


def test_other_things_on_the_disk_stay(program: Program, small: Path, tmp_path: Path) -> None:
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        with made.there(tmp_path / "there") as place:
            (place / "images").mkdir()
            (place / "images/root.oci").write_bytes(small.read_bytes())
        # The image and the state may even be on the same one.
        source = made.kargs.removeprefix("bootc.live.state=")
        kargs = f"root=bootc-live:{source}:/images/root.oci {made.kargs}"
        with booted(program, kargs, tmp_path / "boot") as root:
            assert root.mounts["/var"].kind == "ext4"
            assert root.receipt["warnings"] == []
        with made.there(tmp_path / "there") as place:
            assert (place / "images/root.oci").read_bytes() == small.read_bytes()


def test_dry_run_leaves_the_disk_alone(program: Program, small: Path, tmp_path: Path) -> None:
    needs("ext4")
    with disk("ext4", tmp_path) as made:
        before = made.file.read_bytes()
        sysroot = tmp_path / "sysroot"
        sysroot.mkdir()
        cmdline = f"root=bootc-live:{small} {made.kargs} bootc.live.state.required"
        program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", sysroot, "--workdir", tmp_path).good()
        assert made.file.read_bytes() == before


def test_required_disk_is_missed_before_anything_is_fetched(program: Program, tmp_path: Path) -> None:
    (tmp_path / "sysroot").mkdir()
    kargs = f"root=bootc-live:/nowhere.oci bootc.live.state=UUID={uuid.uuid4()} bootc.live.state.required"
    ended = program.run("boot", "--cmdline", kargs, "--sysroot", tmp_path / "sysroot", "--workdir", tmp_path)
    assert "nowhere.oci" not in ended.error("bootc.live.state=UUID=")
