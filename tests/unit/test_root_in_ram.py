"""Arguments about the root in RAM: layout, what holds it, its writable parts, and what of that contradicts."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Backing, Compression, Layout, WritableParts, Zram
from bootc_live.system.memory import total_bytes

GIB = 2**30
HASH = "0123456789abcdef" * 4
DIGEST = f"sha256:{HASH}"


def mistakes(text: str) -> list[str]:
    """The mistakes found in a command line that has some."""
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(text)
    return caught.value.message.split("; '")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("bootc.live.erofs", "layout", Layout.EROFS),
        ("bootc.live.erofs=0", "layout", Layout.INDEX),
        ("bootc.live.erofs=0 bootc.live.layout=tree", "layout", Layout.TREE),
        ("bootc.live.erofs bootc.live.layout=erofs", "layout", Layout.EROFS),
        ("bootc.live.layout=Auto", "layout", Layout.AUTO),
        ("bootc.live.layout=auto bootc.live.compress=lz4", "compress", Compression.LZ4),
        ("bootc.live.erofs bootc.live.compress=ZSTD", "compress", Compression.ZSTD),
        ("bootc.live.erofs bootc.live.erofs.times=image", "erofs_times", "image"),
        (f"bootc.live.erofs bootc.live.erofs.digest={DIGEST}", "erofs_digest", DIGEST),
        ("bootc.live.erofs bootc.live.verity", "verity", True),
        ("bootc.live.layout=tree bootc.live.verity=0", "verity", False),
        (f"bootc.live.erofs bootc.live.verity.roothash={HASH}", "verity", True),
        (f"bootc.live.erofs bootc.live.verity.roothash={HASH}", "root_hash", HASH),
        ("bootc.live.selinux", "selinux", True),
        ("bootc.live.selinux=0", "selinux", False),
        ("selinux=0", "selinux", None),
        ("bootc.live.size=3g", "backing", Backing(size=3 * GIB)),
        ("bootc.live.huge=within.size", "backing", Backing(huge="within_size")),
        ("bootc.live.huge=within_size", "backing", Backing(huge="within_size")),
        ("bootc.live.mpol=bind=static:0,2-3", "backing", Backing(mpol="bind=static:0,2-3")),
        ("bootc.zram=2G", "backing", Backing(zram=Zram(2 * GIB))),
        ("bootc.zram=2G bootc.live.size=1G", "backing", Backing(size=GIB, zram=Zram(2 * GIB))),
        ("bootc.zram=150%", "backing", Backing(zram=Zram(total_bytes() * 150 // 100))),
        (
            "rw bootc.live.root.size=1G bootc.live.etc.size=1m bootc.live.var.size=512",
            "parts",
            WritableParts(root=True, root_size=GIB, etc_size=2**20, var_size=512),
        ),
        ("bootc.live.writable=zram", "parts", WritableParts(backing="zram")),
        ("bootc.live.state=LABEL=MY", "parts", WritableParts(state="LABEL=MY")),
        (
            "bootc.live.state=/dev/vda2 bootc.live.state.required",
            "parts",
            WritableParts(state="/dev/vda2", state_required=True),
        ),
    ],
)
def test_each(text: str, field: str, value: object) -> None:
    assert getattr(parse_cmdline(text), field) == value


def test_the_algorithm_is_for_every_zram() -> None:
    both = parse_cmdline("bootc.zram=1G bootc.zram.algorithm=zstd bootc.zram.level=-5")
    assert both.backing.zram == Zram(GIB, "zstd", -5)
    assert both.parts == WritableParts(zram_algorithm="zstd", zram_level=-5)
    parts = parse_cmdline("bootc.live.writable=zram bootc.zram.algorithm=lz4")
    assert parts.backing.zram is None
    assert parts.parts == WritableParts(backing="zram", zram_algorithm="lz4")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bootc.live.layout=flat", "'bootc.live.layout=flat' is not one of index, erofs, tree, auto"),
        ("bootc.live.layout", "'bootc.live.layout' is not one of index,"),
        ("bootc.live.layout=tree bootc.live.erofs", "'bootc.live.layout=tree' contradicts 'bootc.live.erofs'"),
        ("bootc.live.layout=auto bootc.live.erofs", "'bootc.live.layout=auto' contradicts 'bootc.live.erofs'"),
        ("bootc.live.compress=lz4", "'bootc.live.compress=lz4' applies only to the erofs layout"),
        (
            "bootc.live.layout=tree bootc.live.compress=zstd",
            "'bootc.live.compress=zstd' applies only to the erofs layout",
        ),
        ("bootc.live.erofs bootc.live.compress=gzip", "'bootc.live.compress=gzip' is not one of none, lz4, zstd"),
        (f"bootc.live.erofs.digest={DIGEST}", f"'bootc.live.erofs.digest={DIGEST}' applies only to the erofs layout"),
        (
            f"bootc.live.layout=auto bootc.live.erofs.digest={DIGEST}",
            f"'bootc.live.erofs.digest={DIGEST}' applies only to the erofs layout",
        ),
        ("bootc.live.verity", "'bootc.live.verity' applies only to the erofs layout; add bootc.live.layout=erofs"),
        ("bootc.live.verity bootc.live.layout=auto", "'bootc.live.verity' applies only to the erofs layout"),
        (
            f"bootc.live.layout=tree bootc.live.verity.roothash={HASH}",
            f"'bootc.live.verity.roothash={HASH}' applies only to the erofs layout",
        ),
        (
            f"bootc.live.erofs bootc.live.verity=0 bootc.live.verity.roothash={HASH}",
            f"'bootc.live.verity.roothash={HASH}' contradicts 'bootc.live.verity=0'",
        ),
        (
            f"bootc.live.erofs bootc.live.verity.roothash={DIGEST}",
            f"'bootc.live.verity.roothash={DIGEST}' is not a root hash; write 64 lower-case hexadecimal digits",
        ),
        ("bootc.live.erofs.times=image", "'bootc.live.erofs.times=image' applies only to the erofs layout"),
        ("bootc.live.erofs bootc.live.erofs.digest=abc", "'bootc.live.erofs.digest=abc' is not a SHA-256 digest"),
        (
            f"bootc.live.erofs bootc.live.erofs.digest=sha512:{'0' * 128}",
            f"'bootc.live.erofs.digest=sha512:{'0' * 128}' is not a SHA-256 digest",
        ),
        ("bootc.live.size=0", "'bootc.live.size=0' is not a size"),
        ("bootc.live.size=0%", "'bootc.live.size=0%' is not a size"),
        ("bootc.live.huge=yes", "'bootc.live.huge=yes' is not one of never,"),
        ("bootc.live.mpol=", "'bootc.live.mpol=' is not a memory policy"),
        ("bootc.zram=1G bootc.live.huge=always", "'bootc.live.huge=always' applies only to a tmpfs"),
        ("bootc.zram=1G bootc.live.mpol=local", "'bootc.live.mpol=local' applies only to a tmpfs"),
        ("bootc.zram.algorithm=zstd", "'bootc.zram.algorithm=zstd' applies only to zram"),
        ("bootc.zram.level=3", "'bootc.zram.level=3' applies only to zram"),
        ("bootc.live.writable=tmpfs bootc.zram.level=3", "'bootc.zram.level=3' applies only to zram"),
        ("bootc.zram=1G bootc.zram.level=high", "'bootc.zram.level=high' is not a level"),
        ("bootc.zram=1G bootc.zram.algorithm=", "'bootc.zram.algorithm=' needs a value"),
        ("bootc.live.writable=disk", "'bootc.live.writable=disk' is not one of tmpfs, zram"),
        ("bootc.live.state=STATE", "'bootc.live.state=STATE' is not a block device"),
        ("bootc.live.state.required", "'bootc.live.state.required' needs a partition"),
    ],
)
def test_each_mistake(text: str, reason: str) -> None:
    (only,) = mistakes(text)
    assert only.startswith(reason) or f"'{only}".startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "bootc.live.layout=flat bootc.live.compress=lz4",
        "bootc.zram=much bootc.zram.level=3",
        "bootc.live.writable=disk bootc.zram.algorithm=lz4",
        "bootc.live.state=x bootc.live.state.required",
    ],
)
def test_one_mistake_is_told_once(text: str) -> None:
    assert len(mistakes(text)) == 1


def test_contradictions_are_told_with_all_other_mistakes() -> None:
    found = mistakes("rw=maybe bootc.live.compress=lz4 bootc.zram.level=1 bootc.live.state.required bootc.live.typo")
    assert [text.lstrip("'").split("'")[0] for text in found] == [
        "rw=maybe",
        "bootc.live.typo",
        "bootc.live.compress=lz4",
        "bootc.zram.level=1",
        "bootc.live.state.required",
    ]
