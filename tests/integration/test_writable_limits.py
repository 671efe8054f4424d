"""How much may be written to the parts of a root, and what it is written to: a tmpfs or a zram device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.booted import Booted, booted
from tests.lib.program import Program
from tests.lib.small_image import BASE, VAR_MTIME, archive_of
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list
from tests.lib.zram import device, devices, own_size

MIB = 2**20


def fill(directory: Path, size: int) -> int:
    """Writes so many bytes that nothing makes smaller; gives how many there was room for."""
    target, done = directory / "fill", 0
    try:
        with target.open("wb", buffering=0) as file:
            while done < size:
                done += file.write(os.urandom(min(65536, size - done)))
    except OSError:
        pass
    return done


@pytest.mark.parametrize(
    ("kargs", "part"),
    [
        ("bootc.live.var.size=4M", "var"),
        ("bootc.live.etc.size=4M", "etc"),
        ("rw bootc.live.root.size=4M", "usr"),
        ("rw bootc.live.root.size=4M", "etc"),
        ("rw bootc.live.var.size=4M", "var"),
    ],
)
def test_limits(kargs: str, part: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {kargs}", tmp_path) as made:
        assert 3 * MIB < fill(made.root / part, 8 * MIB) <= 4 * MIB
        others = {"var", "etc"} - {part} if "rw" not in kargs else {"var"} - {part}
        for other in others:
            assert fill(made.root / other, 8 * MIB) == 8 * MIB


def test_var_that_does_not_fit(program: Program, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "image.oci", BASE, layer(file("var/large", os.urandom(8 * MIB))))
    root = tmp_path / "root"
    root.mkdir()
    ended = program.run("boot", "--cmdline", f"root=bootc-live:{archive} bootc.live.var.size=4M", "--sysroot", root)
    told = ended.error("the image's /var does not fit into 4.0 MiB")
    assert "raise bootc.live.var.size=" in told.splitlines()[-1]
    assert not list(root.iterdir())


@contextmanager
def on_zram(program: Program, archive: Path, kargs: str, where: Path) -> Iterator[Booted]:
    """A boot with zram; its devices, which nobody asks for again, are taken away afterwards."""
    try:
        with booted(program, f"root=bootc-live:{archive} bootc.live.writable=zram {kargs}", where) as made:
            yield made
    finally:
        for found in devices((SMALL, LARGE).__contains__):
            found.remove()


# No one else asks for these sizes.
SMALL, LARGE = (own_size(least, MIB // 4096) for least in (16 * MIB, 24 * MIB))
SIZES = f"bootc.live.var.size={LARGE} bootc.live.etc.size={SMALL} bootc.live.root.size={SMALL}"


@pytest.mark.parametrize("kargs", ["", "rw"])
def test_on_zram(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small} {kargs}", tmp_path / "plain") as made:
        wanted = {part: tree_list(made.root / part) for part in ("etc", "var")}
    with on_zram(program, small, f"{kargs} {SIZES}", tmp_path / "zram") as made:
        parts = {"/": "overlay"} if kargs else {"/": "erofs", "/etc": "overlay"}
        assert {place: mount.kind for place, mount in made.mounts.items()} == {**parts, "/var": "ext4"}
        assert made.mounts["/var"].source.startswith("/dev/zram")
        for part, want in wanted.items():
            assert not differences(want, tree_list(made.root / part))
        info = (made.root / "var").stat()
        assert (oct(info.st_mode & 0o7777), info.st_uid, info.st_mtime) == ("0o711", 5, VAR_MTIME)
        assert not {"nosuid", "nodev", "noexec"} & made.mounts["/var"].options
        assert 12 * MIB < fill(made.root / "etc", 32 * MIB) < 17 * MIB
        assert 18 * MIB < fill(made.root / "var", 48 * MIB) < 25 * MIB


def test_without_a_limit_zram_has_half_of_the_memory(program: Program, small: Path, tmp_path: Path) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    # The kernel makes whole pages of it.
    half = range(total // 2, total // 2 + os.sysconf("SC_PAGESIZE"))
    with on_zram(program, small, f"bootc.live.etc.size={SMALL}", tmp_path) as made:
        usage = os.statvfs(made.root / "var")
        assert 0.4 * total < usage.f_blocks * usage.f_frsize < 0.55 * total
        var = device(made.mounts["/var"].source)
        assert int(var.read("disksize")) in half
    var.remove()
