"""Sparse members in all four forms that GNU tar writes or once wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bootc_live.formats.tar.reader import Member, read_members
from bootc_live.formats.tar.sparse import Extent
from tests.lib.linear import check_linear
from tests.lib.tar_writer import Header, file, layer, member, padded, sparse_gnu, sparse_pax

Parts = Sequence[tuple[int, bytes]]
Writer = Callable[[str, int, Parts], bytes]

FORMS: dict[str, Writer] = {
    "gnu": sparse_gnu,
    "pax-0.0": lambda name, size, parts: sparse_pax(name, size, parts, version="0.0"),
    "pax-0.1": lambda name, size, parts: sparse_pax(name, size, parts, version="0.1"),
    "pax-1.0": lambda name, size, parts: sparse_pax(name, size, parts, version="1.0"),
}


def members(tar: bytes) -> list[Member]:
    return list(read_members(tar))


def filled(tar: bytes, found: Member) -> bytes:
    """The file that the extents describe, with zeros in its holes."""
    content = bytearray(found.size)
    for part in found.extents or ():
        content[part.start : part.start + part.length] = tar[part.data : part.data + part.length]
    return bytes(content)


def expected(size: int, parts: Parts) -> bytes:
    content = bytearray(size)
    for start, data in parts:
        content[start : start + len(data)] = data
    return bytes(content)


SHAPES: dict[str, tuple[int, Parts]] = {
    "all-hole": (1_000_000, []),
    "all-hole-with-end-mark": (1_000_000, [(1_000_000, b"")]),
    "empty": (0, []),
    "data-first": (10_000, [(0, b"a" * 512)]),
    "data-last": (10_000, [(9_488, b"z" * 512)]),
    "no-hole": (5, [(0, b"12345")]),
    "unaligned": (5_000, [(3, b"abc"), (4_097, b"x" * 700)]),
    "neighbours": (4_096, [(0, b"a" * 512), (512, b"b" * 512)]),
    "four": (40_000, [(at * 8192, b"%d" % at * 512) for at in range(4)]),
    "five": (50_000, [(at * 8192, b"%d" % at * 512) for at in range(5)]),
    "twenty-five": (250_000, [(at * 8192, b"x" * 512) for at in range(25)]),
    "twenty-six": (250_000, [(at * 8192, b"y" * 512) for at in range(26)]),
    "two-hundred": (2_000_000, [(at * 8192, b"z" * (at + 1)) for at in range(200)]),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, shape: str) -> None:
    size, parts = SHAPES[shape]
    tar = layer(FORMS[form]("dir/name", size, parts), file("after", "x"))
    found, after = members(tar)
    assert (found.name, found.kind, found.size) == (b"dir/name", "file", size)
    assert found.extents is not None
    assert filled(tar, found) == expected(size, parts)
    assert all(part.length for part in found.extents)
    assert (after.name, after.extents) == (b"after", None)


def test_extents_point_into_the_tar() -> None:
    tar = layer(sparse_gnu("x", 5_000, [(512, b"a" * 512), (4_096, b"b" * 10)]))
    (found,) = members(tar)
    assert found.extents == (Extent(512, 512, 512), Extent(4_096, 10, 1_024))


def test_sparse_keywords_do_not_reach_the_next_member() -> None:
    for form in FORMS.values():
        assert members(layer(form("x", 10_000, []), file("y", "abc")))[1].size == 3


def test_maps_are_read_in_linear_time() -> None:
    def tar(count: int) -> bytes:
        body = padded(b"".join([b"%d\n" % count, *(b"%d\n1\n" % (at * 8192) for at in range(count))])) + b"x" * count
        pax = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", str(count * 8192))]
        return layer(member(Header(b"x", size=len(body)), body, pax=pax))

    tars = {count: tar(count) for count in (20_000, 160_000)}
    check_linear(lambda count: members(tars[count]), 20_000)
    (found,) = members(tars[160_000])
    assert len(found.extents or ()) == 160_000


def body_1_0(body: bytes, size: str = "10000") -> bytes:
    pax = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", size)]
    return member(Header(b"x", size=len(body)), body, pax=pax)


def map_0_1(numbers: str, size: str = "10000") -> bytes:
    return file("x", "abc", pax=[("GNU.sparse.map", numbers), ("GNU.sparse.size", size)])


@pytest.mark.parametrize(
    "part",
    [
        sparse_gnu("x", 100, [(50, b"a" * 51)]),
        sparse_gnu("x", 10_000, [(512, b"a" * 512), (0, b"b" * 512)]),
        sparse_gnu("x", 10_000, [(0, b"a" * 512), (100, b"b" * 512)]),
        sparse_gnu("x", -1, []),
        map_0_1("0"),
        map_0_1("0,1,2"),
        map_0_1("0,-1"),
        map_0_1("-5,1"),
        map_0_1("0,3,1,3"),
        map_0_1("a,b"),
        map_0_1("0,3", "2"),
        map_0_1("", "-1"),
        map_0_1("0,4"),
        map_0_1("9999999999999999999999,1"),
        body_1_0(b""),
        body_1_0(b"x" * 512),
        body_1_0(b"1\n0\n" + bytes(508)),
        body_1_0(b"2\n0\n1\n" + bytes(506)),
        body_1_0(b"-1\n" + bytes(509)),
        body_1_0(b"1\n0\n600\n" + bytes(504) + b"x" * 512),
        body_1_0(b"1" * 5_000),
        body_1_0(b"100\n" * 128),
        body_1_0(b"1\n0\n5\n", size="-7"),
        body_1_0(padded(b"1\n0\n5\n") + b"12345", size="4"),
    ],
    ids=range(24),
)
def test_damaged_maps(part: bytes) -> None:
    with pytest.raises(ValueError, match=r"sparse|claims|octal"):
        members(layer(part))


def test_gnu_map_that_never_ends() -> None:
    """The mark "more blocks follow" of the last block leads out of the archive."""
    header = sparse_gnu("x", 10_000, [(at * 100, b"a") for at in range(5)])[:512]
    with pytest.raises(ValueError, match="sparse"):
        members(header)


class Counting:
    """A tar that may be looked at a few times: more is looking for what cannot come."""

    def __init__(self, tar: bytes) -> None:
        self._tar, self._left = tar, 100

    def __len__(self) -> int:
        return len(self._tar)

    def __getitem__(self, key: slice, /) -> bytes:
        self._left -= 1
        assert self._left, "it is read on behind its end"
        return self._tar[key]


@pytest.mark.parametrize("size", [10_000, 2**32, 2**62])
@pytest.mark.parametrize("body", [b"", b"3\n0\n1", b"2\n0\n5\n", bytes(512)])
def test_a_map_ends_with_the_tar(body: bytes, size: int) -> None:
    """Whatever the member's header claims; found by fuzzing."""
    header = Header(b"s", size=size)
    tar = member(header, body, pax=[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")])
    with pytest.raises(ValueError, match="the map of a sparse member"):
        list(read_members(Counting(tar)))


def test_huge_holes_are_cheap() -> None:
    (found,) = members(layer(map_0_1(f"{2**60 - 1},1", str(2**60))))
    assert found.size == 2**60
    assert found.extents == (Extent(2**60 - 1, 1, found.offset),)
