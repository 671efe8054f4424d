"""Images and places that a boot cannot use, or that would tempt it to touch the system it runs on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.program import Ended, Program
from tests.lib.small_image import BASE, ETC, INIT, MOUNT_POINTS, VAR, archive_of
from tests.lib.tar_writer import directory, file, layer, symlink
from tests.lib.tree_list import differences, tree_list

ROOT = directory("./")
RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"


def boot(program: Program, archive: Path, where: Path, *options: str | Path, kargs: str = "") -> Ended:
    """A boot that is expected to fail, on `where/sysroot`."""
    sysroot, receipt = where / "sysroot", where / "receipt.json"
    sysroot.mkdir(exist_ok=True)
    command = ["boot", "--cmdline", f"root=bootc-live:{archive} {kargs}", "--sysroot", str(sysroot)]
    ended = program.run(*command, "--receipt", receipt, *options)
    assert not receipt.exists(), "a boot that failed left a receipt"
    return ended


@contextmanager
def untouched(*places: Path) -> Iterator[None]:
    """Checks that no file below the places is changed."""
    before = [tree_list(place) for place in places]
    yield
    for place, lines in zip(places, before, strict=True):
        assert not differences(lines, tree_list(place)), place


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that links of an image point to: nothing may appear in it."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "keep").write_text("as it was\n")
    return place


@pytest.mark.parametrize("kargs", ["", f"rw {RO}"])
@pytest.mark.parametrize("missing", ["etc", "var"])
def test_missing_directory(missing: str, kargs: str, program: Program, tmp_path: Path) -> None:
    other = VAR if missing == "etc" else ETC
    archive = archive_of(tmp_path / "image.oci", layer(ROOT, *INIT, *other))
    with booted(program, f"root=bootc-live:{archive} {kargs}", tmp_path / "boot") as made:
        # A live root has a /var, and places to mount on.
        wanted = {*MOUNT_POINTS, "sbin", "var"} | ({"etc"} - {missing})
        assert set(os.listdir(made.root)) == wanted
        warned = [text for text in made.receipt["warnings"] if f"/{missing}" in text]
        assert made.receipt["warnings"] == warned
        assert missing == "etc" or warned == []


@pytest.mark.parametrize(
    ("way", "kargs"),
    [
        ("absolute", ""),
        ("climbing", ""),
        ("dangling", ""),
        ("inside", ""),
        ("absolute", "rw"),
        ("climbing", f"rw {RO}"),
    ],
)
@pytest.mark.parametrize("name", ["etc", "var"])
def test_link_in_place_of_directory(
    way: str, kargs: str, name: str, program: Program, outside: Path, tmp_path: Path
) -> None:
    targets = {
        "absolute": str(outside),
        "climbing": "../" * 30 + str(outside)[1:],
        "dangling": "/nowhere",
        "inside": "usr",
    }
    other = VAR if name == "etc" else ETC
    archive = archive_of(tmp_path / "image.oci", layer(ROOT, *INIT, *other, symlink(name, targets[way])))
    system = Path("/etc")
    with (
        untouched(outside, system),
        booted(program, f"root=bootc-live:{archive} {kargs}", tmp_path / "boot") as made,
    ):
        assert os.readlink(made.root / name) == targets[way]
        # With rw alone /etc is a part of the root like any other.
        warned = bool(made.receipt["warnings"]) and all(f"/{name}" in text for text in made.receipt["warnings"])
        assert warned == ((name, kargs) != ("etc", "rw"))
        assert not any(place.startswith(f"/{name}") for place in made.mounts)
        assert not any(str(outside) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())


@pytest.mark.parametrize("name", ["etc", "var"])
def test_file_in_place_of_directory(name: str, program: Program, tmp_path: Path) -> None:
    other = VAR if name == "etc" else ETC
    archive = archive_of(tmp_path / "image.oci", layer(ROOT, *INIT, *other, file(name, "a file\n")))
    with booted(program, f"root=bootc-live:{archive}", tmp_path / "boot") as made:
        assert (made.root / name).read_text() == "a file\n"
        assert any(f"/{name}" in text for text in made.receipt["warnings"])


@pytest.mark.parametrize(
    "members",
    [
        (),
        (directory("sbin/"), symlink("sbin/init", "/nowhere")),
        (directory("sbin/"), symlink("sbin/init", "init")),
        (directory("sbin/"), symlink("sbin/init", "../" * 30 + "bin/sh")),
        (symlink("sbin", "/"), symlink("init", "/usr/sbin/init")),
        (directory("sbin/"), directory("sbin/init/")),
        (directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o644)),
    ],
    ids=["none", "dangling", "loop", "outside", "link-of-links", "directory", "not-executable"],
)
def test_no_init(members: tuple[bytes, ...], program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "image.oci", layer(ROOT, *ETC, *VAR, *members))
    told = boot(program, archive, tmp_path).error("/sbin/init", archive)
    assert "bootc image" in told


@pytest.mark.parametrize(
    "members",
    [
        (*INIT,),
        (symlink("sbin", "/usr/sbin"), symlink("usr/sbin/init", "/lib/x"), file("lib/x", "x", mode=0o755)),
        (symlink("sbin", "../../usr/sbin"), file("usr/sbin/init", "x", mode=0o755)),
        (file("usr/lib/systemd/systemd", "x", mode=0o755),),
    ],
    ids=["plain", "absolute", "climbing", "systemd"],
)
def test_init_through_links(members: tuple[bytes, ...], program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "image.oci", layer(ROOT, *members))
    with booted(program, f"root=bootc-live:{archive} {RO}", tmp_path / "boot") as made:
        assert made.receipt["layout"] == "index"


def test_sysroot_is_a_mount_point(program: Program, small: Path, tmp_path: Path) -> None:
    sysroot = tmp_path / "sysroot"
    sysroot.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sysroot], check=True)
    try:
        told = boot(program, small, tmp_path).error(repr(str(sysroot)))
        assert "umount -R" in told
        link = tmp_path / "link"
        link.symlink_to(sysroot)
        boot(program, small, tmp_path, "--sysroot", link).error(repr(str(link)))
        assert list(sysroot.iterdir()) == []
    finally:
        subprocess.run(["umount", sysroot], check=True)


@pytest.mark.parametrize(("place", "dry"), [("/nowhere/sysroot", False), ("/etc/passwd", True)])
def test_sysroot_is_no_directory(place: str, dry: bool, program: Program, small: Path, tmp_path: Path) -> None:
    told = boot(program, small, tmp_path, "--sysroot", place, *(["--dry-run"] if dry else [])).error(repr(place))
    assert "--sysroot" in told


@pytest.mark.parametrize("place", ["nowhere", "file", "read-only"])
def test_workdir_that_cannot_be(place: str, program: Program, small: Path, tmp_path: Path) -> None:
    work = tmp_path / place
    if place == "file":
        work.write_text("")
    elif place == "read-only":
        work = Path("/sys")
    for more in ((), ("--dry-run",)):
        told = boot(program, small, tmp_path, "--workdir", work, *more).error(repr(str(work)))
        assert "--workdir" in told


@pytest.mark.parametrize("place", ["directory", "below a file", "read-only", "full"])
def test_receipt_that_cannot_be_written(place: str, program: Program, small: Path, tmp_path: Path) -> None:
    receipt, disk = tmp_path / "there", tmp_path / "disk"
    disk.mkdir()
    if place == "directory":
        receipt.mkdir()
    elif place == "below a file":
        receipt.write_text("")
        receipt /= "receipt.json"
    elif place == "read-only":
        receipt = Path("/sys/receipt.json")
    else:
        receipt = disk / "receipt.json"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], check=True)
        (disk / "all").write_bytes(bytes(4096))
    try:
        told = boot(program, small, tmp_path, "--receipt", receipt).error(repr(str(receipt)))
        assert "--receipt" in told
        assert place != "full" or os.listdir(disk) == ["all"]
        assert not list(receipt.parent.glob("*.part"))
    finally:
        if place == "full":
            subprocess.run(["umount", disk], check=True)


def test_old_receipt_survives_a_failed_boot(program: Program, small: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "old.json"
    receipt.write_text('{"version": "old"}')
    broken = archive_of(tmp_path / "image.oci", layer(ROOT))
    boot(program, broken, tmp_path, "--receipt", receipt).error()
    boot(program, small, tmp_path, "--receipt", receipt, kargs="rootflags=bogus").error()
    assert json.loads(receipt.read_text()) == {"version": "old"}


def test_init_of_a_lower_layer_removed_above(program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "image.oci", BASE, layer(file("sbin/.wh.init", "")))
    boot(program, archive, tmp_path).error("/sbin/init")
