"""Boots with the tree layout: what is mounted, what it stands on, and that nothing else stays."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.program import Program
from tests.lib.small_image import BASE, UPPER, archive_of
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list

TREE = "bootc.live.layout=tree"
RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"


def test_equals_the_index(program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {RO}", tmp_path / "index") as made:
        want = tree_list(made.root)
    with booted(program, f"root=bootc-live:{small} {TREE} {RO}", tmp_path / "tree") as made:
        assert not differences(want, tree_list(made.root))
        assert made.mounts["/"].kind == "tmpfs"
        assert "ro" in made.mounts["/"].options
        assert made.receipt["warnings"] == []
        assert made.receipt["layout"] == "tree"


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_parts_are_as_with_others(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {TREE} {kargs}", tmp_path) as made:
        kinds = {place: mount.kind for place, mount in made.mounts.items()}
        assert (
            kinds == {"/": "overlay", "/var": "tmpfs"} if kargs else {"/": "tmpfs", "/etc": "overlay", "/var": "tmpfs"}
        )
        for part in ("etc", "var", *(["usr"] if kargs else [])):
            (made.root / part / "probe").write_text("x")
        assert (made.root / "etc/hostname").read_text() == "small, changed above\n"


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_suid_and_devices_work(kargs: str, program: Program, tmp_path: Path) -> None:
    tool = layer(file("usr/bin/id", Path("/usr/bin/id").read_bytes(), mode=0o4755, uid=1234))
    archive = archive_of(tmp_path / "image.oci", BASE, tool)
    # Not below tmp_path, which nobody but root may enter.
    with (
        tempfile.TemporaryDirectory() as place,
        booted(program, f"root=bootc-live:{archive} {TREE} {kargs}", Path(place)) as made,
    ):
        Path(place).chmod(0o755)
        command = [str(made.root / "usr/bin/id"), "-u"]
        assert subprocess.run(command, user=65534, stdout=subprocess.PIPE, check=True).stdout == b"1234\n"
        device = os.open(made.root / "usr/lib/null", os.O_RDWR)
        assert os.write(device, b"gone") == 4
        os.close(device)


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_rootflags(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {TREE} rootflags=noatime,nodev {kargs}", tmp_path) as made:
        assert {"noatime", "nodev"} <= made.mounts["/"].options
        assert "nodev" not in made.mounts["/var"].options


@pytest.mark.parametrize("flags", ["bogus", "noatime,size=lots"])
def test_wrong_rootflags(flags: str, program: Program, small: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    cmdline = f"root=bootc-live:{small} {TREE} rootflags={flags}"
    ended = program.run("boot", "--cmdline", cmdline, "--sysroot", tmp_path / "root")
    assert "correct rootflags=" in ended.error(f"rootflags={flags}").splitlines()[-1]


def test_default_workdir(program: Program, small: Path, tmp_path: Path) -> None:
    """The files live on in a file system that has no other place any more."""
    root = tmp_path / "root"
    root.mkdir()
    program.run("boot", "--cmdline", f"root=bootc-live:{small} {TREE}", "--sysroot", root).good()
    try:
        assert (root / "usr/new").read_text() == "new\n"
        assert sorted(os.listdir("/run/bootc-live")) == ["receipt.json"]
    finally:
        subprocess.run(["umount", "-R", root], check=True)
        Path("/run/bootc-live/receipt.json").unlink()
        Path("/run/bootc-live").rmdir()


def test_only_the_files_stay_in_memory(program: Program, tmp_path: Path) -> None:
    large = layer(file("usr/large", os.urandom(30 * 2**20)))
    archive = archive_of(tmp_path / "image.oci", BASE, UPPER, large)
    with booted(program, f"root=bootc-live:{archive} {TREE}", tmp_path / "boot") as made:
        usage = os.statvfs(made.root)
        assert 30 * 2**20 <= (usage.f_blocks - usage.f_bfree) * usage.f_frsize < 31 * 2**20
