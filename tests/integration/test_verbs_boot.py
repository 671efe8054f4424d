"""The boot verb: which parts of the root can be written, and what they are made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.booted import Booted, booted
from tests.lib.program import Program
from tests.lib.small_image import BASE, ETC_MTIME, INIT, UPPER, VAR_MTIME, archive_of
from tests.lib.tar_writer import directory, file, layer, symlink
from tests.lib.tree_list import differences, tree_list

PARTS = ("", "etc", "var")
TREE = "bootc.live.layout=tree"


@dataclass(frozen=True)
class Row:
    """A command line, the parts of the root that it leaves writable, and the file systems that makes."""

    kargs: str
    writable: tuple[str, ...]
    mounts: dict[str, str]


OVERLAY_ETC = {"/": "erofs", "/etc": "overlay"}
ROWS = (
    Row("", ("etc", "var"), {**OVERLAY_ETC, "/var": "tmpfs"}),
    Row("ro", ("etc", "var"), {**OVERLAY_ETC, "/var": "tmpfs"}),
    Row("rw rw=0", ("etc", "var"), {**OVERLAY_ETC, "/var": "tmpfs"}),
    Row("rw ro", ("", "etc", "var"), {"/": "overlay", "/var": "tmpfs"}),
    Row("rw", ("", "etc", "var"), {"/": "overlay", "/var": "tmpfs"}),
    Row(TREE, ("etc", "var"), {"/": "tmpfs", "/etc": "overlay", "/var": "tmpfs"}),
    Row(f"{TREE} rw", ("", "etc", "var"), {"/": "overlay", "/var": "tmpfs"}),
    Row("bootc.live.etc.rw=0", ("var",), {"/": "erofs", "/var": "tmpfs"}),
    Row("bootc.live.var.rw=off", ("etc",), OVERLAY_ETC),
    Row("bootc.live.etc.rw=0 bootc.live.var.rw=0", (), {"/": "erofs"}),
    Row("rw bootc.live.etc.rw=0", ("", "var"), {"/": "overlay", "/etc": "overlay", "/var": "tmpfs"}),
    Row("rw bootc.live.var.rw=0", ("", "etc"), {"/": "overlay", "/var": "overlay"}),
    Row(
        "rw bootc.live.etc.rw=0 bootc.live.var.rw=0",
        ("",),
        {"/": "overlay", "/etc": "overlay", "/var": "overlay"},
    ),
)


def writable_parts(root: Path) -> tuple[str, ...]:
    """The parts of a root in which a file can be made."""
    found = []
    for part in PARTS:
        with suppress(OSError):
            probe = root / part / "probe"
            probe.write_text("x")
            probe.unlink()
            found.append(part)
    return tuple(found)


def parts_of(made: Booted) -> tuple[str, ...]:
    """What the receipt says can be written."""
    said = made.receipt["writable"]
    return tuple(part for part in PARTS if said[part or "root"])


def inodes(path: Path) -> int:
    """How many inodes the tmpfs holds that takes an overlay's changes: statfs(2) of an overlay tells of that one."""
    usage = os.statvfs(path)
    return usage.f_files - usage.f_ffree


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kargs or "nothing")
def test_writable_parts(row: Row, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {row.kargs}", tmp_path) as made:
        assert {place: mount.kind for place, mount in made.mounts.items()} == row.mounts
        assert writable_parts(made.root) == row.writable
        assert parts_of(made) == row.writable
        assert made.receipt["warnings"] == []


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_whole_tree_is_the_image(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    """Whatever lies over it, a root shows what the image holds, file by file."""
    plain = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
    listed = {}
    for name, text in (("plain", plain), ("covered", kargs)):
        with booted(program, f"root=bootc-live:{small} {text}", tmp_path / name) as made:
            listed[name] = {part: tree_list(made.root / part) for part in PARTS}
    for part in PARTS:
        # The listing of / ends where another file system is mounted: /etc and /var have their own.
        below = tuple(f"{other}/" for other in PARTS if other and other != part)
        want, got = ([line for line in listed[name][part] if not line.path.startswith(below)] for name in listed)
        assert not differences(want, got), part
        assert len(want) > 4, part


def test_etc_is_an_overlay_without_copies(program: Program, tmp_path: Path) -> None:
    many = layer(*(file(f"etc/many{number}", "x") for number in range(200)))
    archive = archive_of(tmp_path / "image.oci", BASE, UPPER, many)
    with booted(program, f"root=bootc-live:{archive}", tmp_path / "boot") as made:
        etc = made.root / "etc"
        assert inodes(etc) < 10, "the overlay's tmpfs holds copies"
        info = etc.stat()
        assert (oct(info.st_mode & 0o7777), info.st_uid, info.st_gid, info.st_mtime) == ("0o751", 3, 4, ETC_MTIME)
        assert os.getxattr(etc, "trusted.etc") == b"yes"
        assert (etc / "hostname").read_text() == "small, changed above\n"
        (etc / "hostname").write_text("mine\n")
        (etc / "shadow").unlink()
        shutil.move(etc / "ssl", etc / "tls")
        assert sorted(name for name in os.listdir(etc) if "many" not in name) == ["hostname", "tls"]
        assert (etc / "tls/old").read_text() == "from the image\n"


def test_var_is_a_real_file_system(program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small}", tmp_path) as made:
        var = made.root / "var"
        info = var.stat()
        assert (oct(info.st_mode & 0o7777), info.st_uid, info.st_gid, info.st_mtime) == ("0o711", 5, 6, VAR_MTIME)
        # What container tools need of it: it can be the upper layer of an overlay.
        top = tmp_path / "top"
        for name in (var / "upper", var / "work", top):
            name.mkdir()
        options = f"lowerdir={var}/lib,upperdir={var}/upper,workdir={var}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", top], check=True)
        try:
            (top / "one").write_text("changed\n")
            assert (var / "upper/one").read_text() == "changed\n"
        finally:
            subprocess.run(["umount", top], check=True)
        assert (var / "lib/two").read_text() == "two names\n"


@pytest.mark.parametrize("kargs", ["", "rw", TREE])
def test_suid_and_devices_work(kargs: str, program: Program, tmp_path: Path) -> None:
    tool = layer(file("usr/bin/id", Path("/usr/bin/id").read_bytes(), mode=0o4755, uid=1234))
    archive = archive_of(tmp_path / "image.oci", BASE, tool)
    # Not below tmp_path, which nobody but root may enter.
    with (
        tempfile.TemporaryDirectory() as place,
        booted(program, f"root=bootc-live:{archive} {kargs}", Path(place)) as made,
    ):
        Path(place).chmod(0o755)
        for mount in made.mounts.values():
            assert not mount.options & {"nosuid", "nodev", "noexec"}, mount
        command = [str(made.root / "usr/bin/id"), "-u"]
        assert subprocess.run(command, user=65534, stdout=subprocess.PIPE, check=True).stdout == b"1234\n"
        for null in ("usr/lib/null", "var/lib/null"):
            device = os.open(made.root / null, os.O_RDWR)
            assert os.write(device, b"gone") == 4
            assert os.read(device, 4) == b""
            os.close(device)


@pytest.mark.parametrize("kargs", ["", "rw", TREE])
def test_rootflags(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} rootflags=noatime,nodev {kargs}", tmp_path) as made:
        assert {"noatime", "nodev"} <= made.mounts["/"].options
        assert "nodev" not in made.mounts["/var"].options


@pytest.mark.parametrize(("kargs", "flags"), [("", "bogus"), ("rw", "noatime,size=lots"), (TREE, "bogus")])
def test_wrong_rootflags(kargs: str, flags: str, program: Program, small: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    cmdline = f"root=bootc-live:{small} rootflags={flags} {kargs}"
    ended = program.run("boot", "--cmdline", cmdline, "--sysroot", tmp_path / "root")
    told = ended.error(f"rootflags={flags}")
    assert "correct rootflags=" in told.splitlines()[-1]


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_workdir_of_any_name(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {kargs}", tmp_path / "a b,c:d\\ünïcode \"quo'te") as made:
        assert (made.root / "etc/hostname").read_text() == "small, changed above\n"


@pytest.mark.parametrize("kargs", ["", TREE])
def test_default_workdir_and_receipt(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    program.run("boot", "--cmdline", f"root=bootc-live:{small} {kargs}", "--sysroot", root).good()
    try:
        assert (root / "usr/new").read_text() == "new\n"
        assert sorted(os.listdir("/run/bootc-live")) == ["receipt.json"]
        told = program.run("status").good().stdout
        assert f"image     {small}\n" in told
    finally:
        subprocess.run(["umount", "-R", root], check=True)
        Path("/run/bootc-live/receipt.json").unlink()
        Path("/run/bootc-live").rmdir()


def test_root_outlives_archive_and_workdir(program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "image.oci", BASE, UPPER)
    with booted(program, f"root=bootc-live:{archive}", tmp_path / "boot") as made:
        archive.unlink()
        made.root.parent.joinpath("work").rmdir()
        assert (made.root / "sbin/init").read_text() == "#!/bin/sh\n"
        assert (made.root / "etc/hostname").read_text() == "small, changed above\n"


def test_dry_run_leaves_no_trace(program: Program, small: Path, tmp_path: Path) -> None:
    root, receipt = tmp_path / "root", tmp_path / "receipt.json"
    root.mkdir()
    cmdline = f"root=bootc-live:{small} rw"
    ended = program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", root, "--receipt", receipt).good()
    assert (
        ended.stderr.splitlines()[-1]
        == f"bootc-live: dry run: the root can be attached at {root}; nothing was handed over"
    )
    assert list(tmp_path.iterdir()) == [root]
    assert list(root.iterdir()) == []


def test_quiet(program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} bootc.quiet", tmp_path) as made:
        assert made.ended.stdout == made.ended.stderr == ""


def test_quoted_path(program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "my image.oci", layer(*INIT, directory("etc/"), directory("var/")))
    with booted(program, f'root="bootc-live:{archive}"', tmp_path / "boot") as made:
        assert made.receipt["image"]["reference"] == str(archive)


@pytest.mark.parametrize("masked", [False, True])
def test_services_for_a_disk_are_told(masked: bool, program: Program, tmp_path: Path) -> None:
    unit = "bootloader-update.service"
    wish = symlink(f"etc/systemd/system/multi-user.target.wants/{unit}", f"/usr/lib/systemd/system/{unit}")
    archive = archive_of(tmp_path / "image.oci", BASE, layer(wish))
    kargs = f"systemd.mask={unit}" if masked else ""
    with booted(program, f"root=bootc-live:{archive} {kargs}", tmp_path / "boot") as made:
        told = [warning for warning in made.receipt["warnings"] if unit in warning]
        assert len(told) == (not masked)


def test_a_tree_shows_what_the_index_shows(program: Program, small: Path, tmp_path: Path) -> None:
    plain = f"root=bootc-live:{small} bootc.live.etc.rw=0 bootc.live.var.rw=0"
    with booted(program, plain, tmp_path / "index") as made:
        want = tree_list(made.root)
    with booted(program, f"{plain} {TREE}", tmp_path / "tree") as made:
        assert not differences(want, tree_list(made.root))
        assert "ro" in made.mounts["/"].options
        assert made.receipt["layout"] == "tree"


def test_only_the_files_of_a_tree_stay_in_memory(program: Program, tmp_path: Path) -> None:
    large = layer(file("usr/large", os.urandom(30 * 2**20)))
    archive = archive_of(tmp_path / "image.oci", BASE, UPPER, large)
    with booted(program, f"root=bootc-live:{archive} {TREE}", tmp_path / "boot") as made:
        usage = os.statvfs(made.root)
        assert 30 * 2**20 <= (usage.f_blocks - usage.f_bfree) * usage.f_frsize < 31 * 2**20
