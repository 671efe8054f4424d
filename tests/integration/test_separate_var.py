"""A writable /var in RAM is moved out of the image's data, which may belong to other files, too."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.log import Recorder
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.source_spec import parse_source
from bootc_live.pipeline import fetch
from bootc_live.rootfs.build import RootBuilder, root_builder
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.memory.host import present_means
from bootc_live.source.access import Access
from tests.lib.booted import booted
from tests.lib.fetching import quiet
from tests.lib.program import Program
from tests.lib.small_image import BASE, archive_of
from tests.lib.space import tmpfs
from tests.lib.tar_writer import directory, file, hardlink, layer, sparse_pax
from tests.lib.tree_list import NONE, Line, differences, tree_list
from tests.lib.zram import devices, own_size

MIB = 2**20
# No one else asks for this size of a zram device.
SIZE = own_size(64 * MIB, MIB // 4096)
LARGE = os.urandom(16 * MIB)
USR = os.urandom(3 * MIB)
PARTS = [(0, os.urandom(MIB)), (8 * MIB, os.urandom(MIB))]
# One layer occurs twice: the second time, /var/shared is another file with the data of /etc/kept.
TWICE = layer(directory("var/"), file("var/shared", LARGE[:MIB]), file("usr/plain", USR))
LINKED = layer(hardlink("etc/kept", "var/shared"))
VAR = layer(
    file("var/large", LARGE),
    *(file(f"var/many/{number}", bytes([number]) * 3000) for number in range(50)),
    sparse_pax("var/sparse", 10 * MIB, PARTS),
    file("usr/last", USR[:5000]),
    hardlink("usr/linked", "var/many/7"),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose /var shares data with other files."""
    return archive_of(tmp_path_factory.mktemp("image") / "image.oci", BASE, TWICE, LINKED, TWICE, VAR)


@contextmanager
def built(archive: Path, kargs: str, where: Path) -> Iterator[tuple[RootBuilder, BuiltRoot]]:
    """A root that was built on a tmpfs below a new directory."""
    config, recorder = parse_cmdline(f"root=bootc-live:{archive} {kargs}"), Recorder(quiet=True)
    with (
        tmpfs(where, "size=1G") as ram,
        root_builder(config, str(ram), recorder, present_means(), ours=True) as builder,
    ):
        fetched = fetch([parse_source(str(archive))], Access(quiet, root="/nonexistent"), builder, recorder)
        yield builder, builder.build(fetched.plan.option, fetched.image, var_in_ram=True)


@pytest.mark.parametrize("layout", ["index", "tree"])
def test_memory_has_it_once(layout: str, archive: Path, tmp_path: Path) -> None:
    with built(archive, f"bootc.live.layout={layout}", tmp_path / "ram") as (builder, root):
        assert root.var is not None
        assert (Path(root.var) / "large").read_bytes() == LARGE
        usage = os.statvfs(tmp_path / "ram")
        held = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        # What is not in /var, the data that both have, and the ends of pages.
        assert held < len(USR) + 3 * MIB
        assert os.path.exists(builder.path) == (layout == "index")


def test_the_image_is_the_same_for_all(archive: Path, tmp_path: Path) -> None:
    with built(archive, "bootc.live.layout=erofs", tmp_path / "ram") as (_, root):
        assert root.var is None


def listed(root: Path) -> list[Line]:
    """All files; a file with names in /var and outside has become two, whose names count alone."""
    split = {"many/7", "shared", "linked", "kept"}
    lines = [line for part in ("etc", "usr", "var") for line in tree_list(root / part)]
    return [line.but(nlink="1", group=NONE) if line.path in split else line for line in lines]


@pytest.mark.parametrize("kargs", ["", "rw", "bootc.live.writable=zram"])
@pytest.mark.parametrize("layout", ["index", "tree"])
def test_all_files_are_there(layout: str, kargs: str, program: Program, archive: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{archive} bootc.live.var.rw=0", tmp_path / "fixed") as made:
        wanted = listed(made.root)
    zram = f"bootc.live.var.size={SIZE} bootc.live.etc.size={SIZE}" if "zram" in kargs else ""
    kargs = f"root=bootc-live:{archive} bootc.live.layout={layout} {kargs} {zram}"
    try:
        with booted(program, kargs, tmp_path / "moved") as made:
            assert made.mounts["/var"].kind == ("ext4" if zram else "tmpfs")
            assert not differences(wanted, listed(made.root))
            assert (made.root / "etc/kept").read_bytes() == (made.root / "var/shared").read_bytes() == LARGE[:MIB]
            assert (made.root / "var/sparse").stat().st_blocks * 512 < 3 * MIB
            (made.root / "var/large").write_bytes(b"changed")
    finally:
        for found in devices((SIZE,).__contains__):
            found.remove()


def test_what_is_below_is_empty(program: Program, archive: Path, tmp_path: Path) -> None:
    """A bind mount of / alone shows it: no files, rather than files of zeros."""
    with booted(program, f"root=bootc-live:{archive}", tmp_path) as made, tmpfs(tmp_path / "below"):
        subprocess.run(["mount", "--bind", made.root, tmp_path / "below"], check=True)
        try:
            assert os.listdir(tmp_path / "below/var") == []
            assert (tmp_path / "below/usr/plain").read_bytes() == USR
        finally:
            subprocess.run(["umount", tmp_path / "below"], check=True)
