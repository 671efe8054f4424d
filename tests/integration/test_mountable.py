"""What this kernel can mount, asked for real; and boots where it cannot."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bootc_live.config.model import Compression, Layout
from bootc_live.rootfs.layouts import mountable
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.mounts import detached, require_kind
from tests.lib.booted import booted
from tests.lib.oci_writer import Image, Layer, compress, write_archive
from tests.lib.program import Program
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

OPTIONS = (StorageOption(Layout.INDEX), *(StorageOption(Layout.EROFS, compress) for compress in Compression))
# The kernel's struct erofs_super_block: of features that a mount must know, and of blocks.
_FEATURES, _BLOCK_BITS = 1024 + 80, 1024 + 12


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    mountable._obstacle.cache_clear()
    yield
    mountable._obstacle.cache_clear()


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_mounted_and_read(option: StorageOption) -> None:
    """The kernel decides; what it says is compared with a mount of the same image. Nothing is mounted anywhere."""
    before, opened = mounts(), len(os.listdir("/proc/self/fd"))
    said = mountable.obstacle(option)
    assert (mounts(), len(os.listdir("/proc/self/fd"))) == (before, opened)
    refused = ""
    try:
        with (
            mountable._image(option.layout, option.compress) as (fd, block),
            loop_device(fd, "test", block) as device,
            detached("erofs", device) as top,
        ):
            assert sorted(os.listdir(f"/proc/self/fd/{top}")) == ["sparse", "whole"]
            with pytest.raises(OSError, match="Read-only"):
                os.mkdir("new", dir_fd=top)
    except OSError as error:
        refused = f"this kernel cannot mount {mountable._WHAT[option]}: {error.strerror}"
    assert said == refused


def test_kinds_of_file_systems() -> None:
    require_kind("overlay")
    with pytest.raises(OSError, match="No such device") as caught:
        require_kind("nothingfs")
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    ("at", "byte", "error"),
    [(_FEATURES + 3, 0x40, None), (_BLOCK_BITS, 8, errno.EINVAL), (1024, 0, errno.EINVAL), (4096, 0x7F, errno.EIO)],
    ids=["feature", "block size", "magic", "data"],
)
def test_refused_by_the_kernel(at: int, byte: int, error: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with something that no kernel can mount, or that it reads as something else."""
    make = mountable._image

    @contextmanager
    def changed(layout: Layout, compress: Compression) -> Iterator[tuple[int, int]]:
        with make(layout, compress) as (fd, block):
            os.pwrite(fd, bytes([byte]), at)
            yield fd, block

    monkeypatch.setattr(mountable, "_image", changed)
    said = mountable.obstacle(StorageOption(Layout.EROFS))
    assert said.startswith("this kernel cannot mount EROFS images of the erofs layout (Linux 5.15 and later can): ")
    if error == errno.EIO:
        assert said.endswith("it reads wrong data")
    elif error is not None:
        assert said.endswith(os.strerror(error))


# Its loop devices are hidden, so that it can mount no image.
WITHOUT_LOOPS = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount --bind /dev/null /dev/loop-control && exec "$@"',
    "sh",
)
ASKED = {"index": StorageOption(Layout.INDEX), "zstd": StorageOption(Layout.EROFS, Compression.ZSTD)}
OBSTACLE = "cannot use loop devices: Inappropriate ioctl for device"


@pytest.mark.parametrize(
    ("kargs", "asked"),
    [("", "index"), ("bootc.live.erofs bootc.live.compress=lz4", "erofs lz4")],
)
def test_files_where_no_image_can_be_mounted(kargs: str, asked: str, zipapp: Path, small: Path, tmp_path: Path) -> None:
    """What was chosen is what is told, made and recorded."""
    (tmp_path / "sysroot").mkdir()
    receipt = tmp_path / "receipt.json"
    argv = ("boot", "--sysroot", tmp_path / "sysroot", "--receipt", receipt)
    done = Program(zipapp, before=WITHOUT_LOOPS).run(*argv, "--cmdline", f"root=bootc-live:{small} {kargs}").good()
    made: dict[str, Any] = json.loads(receipt.read_text())
    assert (made["layout"], made["root"]["asked"]["layout"]) == ("tree", asked.split(maxsplit=1)[0])
    assert made["root"]["why"].startswith(f"layout tree, instead of {asked}: needs ")
    assert made["root"]["why"] in done.stderr
    warning = f"layout tree is used, instead of {asked}; {OBSTACLE}"
    assert made["warnings"] == [warning]
    # Once, and before anything is looked up.
    assert done.stderr.count(f"warning: {warning}") == 1
    assert done.stderr.index(warning) < done.stderr.index("looking up")


# The program as it is under a kernel that refuses the images of one layout: here, because they are none.
OLDER = """
import sys
from contextlib import contextmanager
layout, _, zipapp = sys.argv[1:4]
sys.argv[:4] = [zipapp]
sys.path.insert(0, zipapp)
from bootc_live.rootfs.layouts import mountable
make = mountable._image
@contextmanager
def image(kind, compress):
    with make(kind, compress) as (fd, block):
        if layout in (kind, compress):
            mountable.os.pwrite(fd, bytes(4), 1024)
        yield fd, block
mountable._image = image
from bootc_live.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("refused", "kargs", "taken", "said"),
    [
        ("index", "", "erofs none", "instead of index"),
        ("index", "bootc.live.layout=auto", "erofs none", "the fastest that fits"),
        ("zstd", "bootc.live.erofs bootc.live.compress=zstd", "erofs lz4", "instead of erofs zstd"),
    ],
)
def test_what_comes_next(
    refused: str, kargs: str, taken: str, said: str, zipapp: Path, small: Path, tmp_path: Path
) -> None:
    """What was chosen is what is told, made, mounted and recorded."""
    program = Program(zipapp, before=(sys.executable, "-c", OLDER, refused))
    with booted(program, f"root=bootc-live:{small} {kargs}", tmp_path) as made:
        root, layout = made.receipt["root"], made.receipt["layout"]
        assert f"{layout} {root['compression']}" == taken
        because = f"; this kernel cannot mount {mountable._WHAT[ASKED[refused]]}: Invalid argument"
        name = taken.removesuffix(" none")
        assert root["why"].startswith(f"layout {name}, {said}: needs ")
        assert root["why"].endswith(because)
        assert root["why"] in made.ended.stderr
        assert made.mounts["/"].kind == "erofs"
        assert "erofs" in made.receipt["phases"]
        # An index is replaced by the same data in the erofs layout; a compression takes more memory.
        warned = [f"layout {name} is used, {said}{because}"] if refused == "zstd" else []
        assert made.receipt["warnings"] == warned
        assert os.listdir(made.root)


def test_a_pinned_image_is_not_replaced(zipapp: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "sysroot").mkdir()
    digest = f"sha256:{'0' * 64}"
    kargs = f"root=bootc-live:{small} bootc.live.erofs bootc.live.erofs.digest={digest}"
    done = Program(zipapp, before=WITHOUT_LOOPS).run("boot", "--sysroot", tmp_path / "sysroot", "--cmdline", kargs)
    done.error(f"'bootc.live.erofs.digest={digest}' allows no other layout, but layout tree is used", OBSTACLE)
    assert "looking up" not in done.stderr


def test_what_was_begun_for_one_source_is_kept_for_the_next(program: Program, small: Path, tmp_path: Path) -> None:
    """The first image fits compressed only, and breaks off in its last layer; an index would do for the second."""
    text = b"".join(b"line %d of a large file\n" % number for number in range(4_000_000))
    last = layer(file("last", "x" * 1000))
    image = Image([Layer(layer(file("large", text))), Layer(last)], architecture=HERE)
    archive = write_archive(tmp_path / "broken.oci", image)
    content, blob = archive.read_bytes(), compress(last, "gzip")
    assert content.count(blob) == 1
    archive.write_bytes(content.replace(blob, blob[:20] + bytes([blob[20] ^ 1]) + blob[21:]))
    kargs = f"root=bootc-live:{archive} bootc.live.fallback={small} bootc.live.layout=auto bootc.live.size=95M"
    with booted(program, kargs, tmp_path) as made:
        assert [source["used"] for source in made.receipt["sources"]] == [False, True]
        assert "layout erofs lz4, the fastest that fits" in made.ended.stderr
        assert made.receipt["layout"] == "erofs"
        assert made.receipt["root"]["compression"] == "lz4"
        assert made.receipt["root"]["why"].startswith("layout erofs lz4, as begun for another source: needs ")
        assert made.receipt["root"]["sha256"] is not None
