"""Chunk maps of sparse files: every extent is found where it belongs, everything else is a hole."""

from __future__ import annotations

import os
import struct
import tempfile
from array import array
from collections.abc import Iterator

import pytest

from bootc_live.formats.erofs.structures import BLOCK, HOLE
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.layouts.erofs import chunks
from bootc_live.rootfs.layouts.erofs.chunks import ChunkMap, MapBudget, chunk_map, node_chunk, windows
from bootc_live.rootfs.tree.node import Node
from tests.lib.linear import check_linear

Parts = list[tuple[int, int]]
# Room for what has to be copied, in front of where the layer's data begins.
DATA = 1 << 22


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def sparse_node(fd: int, size: int, parts: Parts, shift: int = 0) -> tuple[Node, bytes]:
    """A node whose data lies packed in the file, as a tar has it, and the content it stands for."""
    content, extents, position = bytearray(size), [], DATA + shift
    for number, (start, length) in enumerate(parts):
        data = bytes([number % 255 + 1]) * length
        os.pwrite(fd, data, position)
        content[start : start + length] = data
        extents.append(Extent(start, length, position))
        position += length
    os.ftruncate(fd, -(-(position + 4096) // 4096) * 4096)
    return Node("file", size=size, extents=tuple(extents)), bytes(content)


def mapped(node: Node, fd: int, extra: int) -> tuple[ChunkMap, int]:
    """The map of a node, and where what had to be copied ends."""
    made = ChunkMap.reserve(node.size, node_chunk(node))
    return made, chunk_map(node, made, fd, extra)


def read_back(fd: int, found: ChunkMap, size: int) -> bytes:
    """The file as the kernel reads it."""
    step, content = BLOCK << found.chunk_bits, bytearray()
    for address in found.table:
        content += bytes(step) if address == HOLE else os.pread(fd, step, address * BLOCK).ljust(step, b"\0")
    return bytes(content[:size])


ALIGNED: dict[str, tuple[int, Parts]] = {
    "nothing-but-hole": (1_000_000, []),
    "nothing-but-data": (4096, [(0, 4096)]),
    "empty": (0, []),
    "data-first": (100_000, [(0, 512)]),
    "data-last": (100_352, [(99_840, 512)]),
    "data-last-with-the-end": (100_000, [(99_840, 160)]),
    "big-blocks": (1 << 20, [(65_536, 65_536), (524_288, 65_536)]),
    "neighbours": (8192, [(512, 512), (1024, 512)]),
    "short": (5, [(0, 5)]),
}
UNALIGNED: dict[str, tuple[int, Parts]] = {
    "odd-start": (10_000, [(3, 100)]),
    "odd-end": (10_000, [(512, 100)]),
    "across-blocks": (10_000, [(510, 4)]),
    "across-pages": (20_000, [(4095, 2), (12_287, 3)]),
    "many-in-one-page": (4096, [(at, 7) for at in range(1, 4000, 100)]),
    "touching-windows": (40_000, [(100, 5000), (8200, 1), (12_200, 200)]),
    "end-of-file": (10_001, [(9999, 2)]),
    "mixed": (100_000, [(0, 512), (8192, 513), (50_000, 1)]),
}


@pytest.mark.parametrize("shape", [*ALIGNED, *UNALIGNED])
def test_shapes(fd: int, shape: str) -> None:
    size, parts = (ALIGNED | UNALIGNED)[shape]
    node, content = sparse_node(fd, size, parts)
    found, extra = mapped(node, fd, 8192)
    assert read_back(fd, found, size) == content
    assert len(found.table) == found.reserved
    assert extra % 4096 == 0
    assert (extra > 8192) is (shape in UNALIGNED)


def test_data_that_begins_within_a_block_is_copied(fd: int) -> None:
    """Possible after an extent whose length is no multiple of the block."""
    node, content = sparse_node(fd, 100_000, [(8192, 4096)], shift=7)
    found, extra = mapped(node, fd, 8192)
    assert read_back(fd, found, 100_000) == content
    assert extra == 8192 + 4096


@pytest.mark.parametrize(
    ("size", "parts", "bits"),
    [
        (1_000_000, [], 11),
        (512, [], 0),
        (513, [], 1),
        (0, [], 0),
        (4096, [(0, 4096)], 3),
        (1 << 20, [(65_536, 65_536)], 7),
        (1 << 20, [(65_536, 512)], 0),
        (1 << 20, [(1 << 19, 1 << 19)], 10),
        (100_352, [(99_840, 512)], 0),
    ],
)
def test_chunks_are_as_large_as_can_be(size: int, parts: Parts, bits: int) -> None:
    node = Node("file", size=size, extents=tuple(Extent(start, length, DATA) for start, length in parts))
    assert node_chunk(node) == BLOCK << bits


def test_packed() -> None:
    assert ChunkMap(3, 3, table=array("I", [7, HOLE, 2**31])).packed() == struct.pack("<III", 7, 0xFFFFFFFF, 2**31)
    assert ChunkMap(3, 0).packed() == b""
    assert ChunkMap(3, 0).chunk_format == 3


@pytest.mark.parametrize("size", [2**62, 2**50, 2**40 + 1])
def test_giants_of_nothing_are_small(size: int) -> None:
    found = ChunkMap.reserve(size, node_chunk(Node("file", size=size, extents=())))
    assert found.reserved * BLOCK << found.chunk_bits >= size
    assert found.reserved <= 4 * 2**20


GB, TB = 10**9, 10**12
GIANTS: dict[str, tuple[int, Parts]] = {
    "two bytes of sixty gigabytes": (60 * GB, [(0, 1), (60 * GB - 1, 1)]),
    "a sector of sixty gigabytes": (60 * GB, [(0, 512)]),
    "a byte in the middle": (60 * GB, [(30 * GB + 7, 1)]),
    "lastlog": (300 * GB, [(292 * 1000, 292), (292 * 4_000_000_000 // 4, 292)]),
    "a byte of a terabyte": (TB, [(TB // 3, 1)]),
    "a byte of what ext4 holds": (16 * 2**40, [(2**40 + 1, 1)]),
    "many bytes of a terabyte": (TB, [(at * 10**9 + 3, 1) for at in range(300)]),
    "dense and odd": (10 * GB, [(1, 10 * GB - 1)]),
}


@pytest.mark.parametrize("shape", GIANTS)
def test_giants_cost_little(shape: str) -> None:
    """Map and padding are small, and what is there is found."""
    size, parts = GIANTS[shape]
    extents = tuple(Extent(start, length, DATA) for start, length in parts)
    chunk = node_chunk(Node("file", size=size, extents=extents))
    found = windows(extents, chunk)
    stored = sum(length for _, length in parts)
    assert sum(end - start for start, end in found) <= stored + 2 * chunk * len(parts)
    assert 4 * -(-size // chunk) <= 16_384 + stored // 16 + len(parts) * 5 * 2**20
    assert all(start % chunk == end % chunk == 0 for start, end in found)
    for start, length in parts:
        assert any(begin <= start and start + length <= end for begin, end in found)


def test_two_bytes_of_sixty_gigabytes(fd: int) -> None:
    os.pwrite(fd, b"ab", DATA)
    node = Node("file", size=60 * GB, extents=(Extent(5, 1, DATA), Extent(60 * GB - 1, 1, DATA + 1)))
    found, extra = mapped(node, fd, 8192)
    step = BLOCK << found.chunk_bits
    assert (extra - 8192, len(found.packed())) == (2 * step, 4 * len(found.table))
    assert extra + len(found.packed()) < 4 * 2**20
    places = [index for index, address in enumerate(found.table) if address != HOLE]
    assert places == [0, len(found.table) - 1]
    assert os.pread(fd, 1, found.table[0] * BLOCK + 5) == b"a"
    assert os.pread(fd, 1, found.table[-1] * BLOCK + (60 * GB - 1) % step) == b"b"


@pytest.mark.parametrize("unit", [1, 512, 1024, 4096])
def test_copies_end_at_pages(unit: int, fd: int) -> None:
    """Also those of small files, and where chunks had to grow."""
    for size in (unit, 1400, 3 * 2**20, 9 * 2**20 + unit):
        node, _ = sparse_node(fd, size, [(0, min(unit, size)), (size // 2 // unit * unit, 1)])
        _, extra = mapped(node, fd, 8192)
        assert extra % 4096 == 0


def test_maps_of_one_image_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MOST_ENTRIES", 100)
    budget = MapBudget()
    assert budget.reserve(60 * 512, 512).reserved == 60
    with pytest.raises(ValueError, match="maps would have more than 100 entries"):
        budget.reserve(60 * 512, 512)


def test_data_far_away_is_refused() -> None:
    made = ChunkMap.reserve(512, 512)
    with pytest.raises(ValueError, match="beyond what EROFS can point at"):
        made.fill((Extent(0, 512, (2**32 - 1) * 512),), 512)


def test_data_beyond_the_file(fd: int) -> None:
    node = Node("file", size=10_000, extents=(Extent(3, 5000, DATA),))
    with pytest.raises(ValueError, match="beyond the end"):
        mapped(node, fd, 8192)


def test_many_extents_are_quick(fd: int) -> None:
    extents = tuple(Extent(at * 16_384 + 1, 1, DATA + at) for at in range(10_000))
    os.pwrite(fd, b"x" * len(extents), DATA)
    check_linear(lambda count: mapped(Node("file", size=count * 16_384, extents=extents[:count]), fd, 8192), 1250)
