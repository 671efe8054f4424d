"""Members as hand-made headers describe them, and every damaged archive as a ValueError that says where."""

from __future__ import annotations

import io
import tarfile

import pytest

from bootc_live.formats.tar.reader import Member, read_members
from tests.lib.tar_writer import (
    BLOCK,
    DEFAULT_MTIME,
    Header,
    base256,
    directory,
    end,
    file,
    hardlink,
    layer,
    member,
    node,
    pax_header,
    symlink,
    xattr,
)

LONG = "d/" * 60 + "name"


def members(tar: bytes) -> list[Member]:
    return list(read_members(tar))


def only(*parts: bytes) -> Member:
    (found,) = members(layer(*parts))
    return found


def data_of(tar: bytes, found: Member) -> bytes:
    return tar[found.offset : found.offset + found.size]


def test_regular_file() -> None:
    tar = layer(file("a/b", b"content", mode=0o4755, uid=1000, gid=100, mtime=12345))
    (found,) = members(tar)
    assert found == Member(
        name=b"a/b",
        kind="file",
        mode=0o4755,
        uid=1000,
        gid=100,
        mtime=12345,
        mtime_ns=0,
        link=b"",
        device=(0, 0),
        offset=512,
        size=7,
        xattrs={},
        extents=None,
    )
    assert data_of(tar, found) == b"content"


def test_offsets_of_several() -> None:
    contents = {b"a": b"", b"b": b"x", b"c": b"y" * 512, b"d": b"z" * 513, b"e": b"last"}
    tar = layer(*(file(name, content) for name, content in contents.items()))
    assert {found.name: data_of(tar, found) for found in members(tar)} == contents


@pytest.mark.parametrize(
    ("part", "kind", "link", "device"),
    [
        (directory("x/"), "dir", b"", (0, 0)),
        (directory("x"), "dir", b"", (0, 0)),
        (symlink("x", "../t"), "symlink", b"../t", (0, 0)),
        (hardlink("x", "t"), "hardlink", b"t", (0, 0)),
        (node("x", "char", 1, 3), "char", b"", (1, 3)),
        (node("x", "block", 259, 1_000_000), "block", b"", (259, 1_000_000)),
        (node("x", "fifo"), "fifo", b"", (0, 0)),
        (node("x", "fifo", 5, 6), "fifo", b"", (0, 0)),
        (file("x", typeflag=b"\0"), "file", b"", (0, 0)),
        (file("x", typeflag=b"7"), "file", b"", (0, 0)),
        (file("x/", typeflag=b"\0"), "dir", b"", (0, 0)),
    ],
)
def test_kinds(part: bytes, kind: str, link: bytes, device: tuple[int, int]) -> None:
    found = only(part)
    assert (found.kind, found.link, found.device, found.size) == (kind, link, device, 0)


@pytest.mark.parametrize("flag", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_types_without_a_body_have_none_whatever_they_claim(flag: bytes) -> None:
    first = member(Header(b"x", flag, size=5000, linkname=b"t"))
    assert [found.name for found in members(layer(first, file("y", "z")))] == [b"x", b"y"]
    assert members(layer(first, file("y")))[0].size == 0
    second = member(Header(b"x", flag, linkname=b"t"), pax=[("size", "5000")])
    assert [found.name for found in members(layer(second, file("y", "z")))] == [b"x", b"y"]


@pytest.mark.parametrize("flag", [b"V", b"D", b"M", b"N", b"A", b"s", b"8", b"\xff"])
def test_unknown_types(flag: bytes) -> None:
    with pytest.raises(ValueError, match=r"member 'x' has the unknown type"):
        only(member(Header(b"x", flag)))


@pytest.mark.parametrize("fmt", ["ustar", "pax", "gnu"])
def test_long_names(fmt: str) -> None:
    found = members(layer(file(LONG, "1", fmt=fmt), file("short", "2")))  # type: ignore[arg-type]
    assert [entry.name for entry in found] == [LONG.encode(), b"short"]


@pytest.mark.parametrize("fmt", ["pax", "gnu"])
@pytest.mark.parametrize("length", [99, 100, 101, 255, 1000, 4095])
def test_long_links(fmt: str, length: int) -> None:
    target = "t" * length
    found = members(layer(symlink("a", target, fmt=fmt), symlink("b", "c")))  # type: ignore[arg-type]
    assert [entry.link for entry in found] == [target.encode(), b"c"]


def test_name_of_exactly_one_hundred_bytes_has_no_end() -> None:
    assert only(file("n" * 100)).name == b"n" * 100


def test_gnu_headers_have_no_prefix() -> None:
    """They keep times in its place."""
    header = Header(b"name", magic=b"ustar  \0", prefix=b"14123456701\x0014123456701\0")
    assert only(header.encode()).name == b"name"


def test_old_headers_have_no_prefix() -> None:
    assert only(Header(b"name", magic=bytes(8), prefix=b"no").encode()).name == b"name"


@pytest.mark.parametrize("name", [b"\xff\xfe", "日本".encode(), b"a\nb", b" ", b"-rf", b"a\\b"])
def test_names_are_bytes(name: bytes) -> None:
    assert only(file(name)).name == name
    assert only(file("x", pax=[("path", name)])).name == name


def test_pax_replaces_fields() -> None:
    found = only(
        file(
            "short",
            b"12345",
            size=0,
            pax=[
                ("path", "other"),
                ("size", "5"),
                ("uid", "3000000000"),
                ("gid", "4000000000"),
                ("mtime", "1600000000.25"),
                ("comment", "nothing"),
            ],
        )
    )
    assert (found.name, found.size, found.uid, found.gid) == (b"other", 5, 3_000_000_000, 4_000_000_000)
    assert (found.mtime, found.mtime_ns) == (1_600_000_000, 250_000_000)


def test_empty_pax_values_leave_the_header_as_it_is() -> None:
    """POSIX: a value of zero length takes back what was said of the keyword before."""
    keywords = ("path", "size", "uid", "gid", "mtime", "linkpath")
    found = only(file("name", b"abc", uid=5, gid=6, pax=[(keyword, "") for keyword in keywords]))
    assert (found.name, found.size, found.uid, found.gid, found.mtime) == (b"name", 3, 5, 6, DEFAULT_MTIME)


def test_pax_is_for_the_next_member_alone() -> None:
    found = members(layer(file("a", pax=[("uid", "7"), xattr("user.a", "1")]), file("b")))
    assert [entry.uid for entry in found] == [7, 0]
    assert [entry.xattrs for entry in found] == [{b"user.a": b"1"}, {}]


def test_global_pax_is_for_all_that_follow() -> None:
    first, second = pax_header([("uid", "7"), ("gid", "8")], "g"), pax_header([("uid", "9")], "g")
    found = members(layer(file("a"), first, file("b"), file("c", pax=[("uid", "1")]), second, file("d")))
    assert [(entry.uid, entry.gid) for entry in found] == [(0, 0), (7, 8), (1, 8), (9, 8)]


def test_global_pax_between_a_header_and_its_member() -> None:
    tar = layer(pax_header([("uid", "1")]), pax_header([("uid", "2"), ("gid", "3")], "g"), file("a"), file("b"))
    assert [(entry.uid, entry.gid) for entry in members(tar)] == [(1, 3), (2, 3)]


def test_pax_goes_before_gnu_long_names() -> None:
    tar = layer(pax_header([("path", "pax")]), file("g" * 200, fmt="gnu"))
    assert [entry.name for entry in members(tar)] == [b"pax"]


def test_a_member_can_take_a_global_value_back() -> None:
    general = pax_header([("uid", "7"), xattr("user.a", "1")], "g")
    found = members(layer(general, file("a", uid=3, pax=[("uid", ""), xattr("user.a", "")]), file("b")))
    assert [(entry.uid, entry.xattrs) for entry in found] == [(3, {}), (7, {b"user.a": b"1"})]


def test_xattrs() -> None:
    value = bytes(range(256))
    found = only(
        file("a", pax=[xattr("security.capability", value), xattr("user.empty", ""), xattr("user.é", "=x\ny")])
    )
    assert found.xattrs == {b"security.capability": value, "user.é".encode(): b"=x\ny"}


@pytest.mark.parametrize("value", [-1, -(2**40), 2**40])
def test_base256_times(value: int) -> None:
    assert only(file("a", mtime=value)).mtime == value


def test_mode_bits_beyond_permissions_are_dropped() -> None:
    assert only(file("a", mode=0o100644)).mode == 0o644
    assert only(file("a", mode=0o7777)).mode == 0o7777


def test_python_reads_the_same() -> None:
    """An independent reader of the same bytes."""
    tar = layer(
        directory("d/", uid=5), file("d/f", b"x" * 1000, mtime=77), symlink("d/l", "f"), hardlink("h", "d/f"),
        file(LONG, "1", pax=[("mtime", "5.5")]), node("n", "char", 1, 3),
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        expected = [(entry.name, entry.mode, entry.uid, entry.size, entry.linkname) for entry in archive]
    assert [
        (entry.name.decode().rstrip("/"), entry.mode, entry.uid, entry.size, entry.link.decode())
        for entry in members(tar)
    ] == expected


@pytest.mark.parametrize("tail", [b"", bytes(512), end(), bytes(512 * 19), bytes(100), end() + b"garbage" * 100])
def test_ends(tail: bytes) -> None:
    """Two zero blocks end an archive; the first one is enough, and so is the end of the file."""
    assert [entry.name for entry in members(file("a", "x") + tail)] == [b"a"]


@pytest.mark.parametrize(
    "last",
    [pax_header([("path", "x")]), pax_header([("path", "x")], "X"), file("g" * 200, fmt="gnu")[: 2 * BLOCK]],
)
@pytest.mark.parametrize("tail", [b"", end()])
def test_headers_about_no_member_say_nothing(last: bytes, tail: bytes) -> None:
    """What ends inside of one is damaged all the same."""
    assert [entry.name for entry in members(file("a", "x") + last + tail)] == [b"a"]
    for size in (100, BLOCK + 1):
        with pytest.raises(ValueError, match=r"inside a header|extension header at offset"):
            members(file("a", "x") + last[:size])


@pytest.mark.parametrize("tar", [b"", end(), bytes(512), bytes(10)])
def test_empty(tar: bytes) -> None:
    assert members(tar) == []


def test_content_that_looks_like_headers_is_content() -> None:
    inner = layer(file("inner", "x"), directory("../evil/"))
    tar = layer(file("a.tar", inner), file("b"))
    assert [entry.name for entry in members(tar)] == [b"a.tar", b"b"]


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (file("a") + b"x" * 512, "there is no tar header at offset 512"),
        (Header(b"a", checksum_error=1).encode(), "there is no tar header at offset 0"),
        (file("a") + file("b")[:100], "ends inside a header"),
        (file("a") + b"x", "ends inside a header"),
        (file("a", b"x" * 1000)[:1000], "member 'a' claims 1000 bytes of data, beyond the end of the tar"),
        (layer(file("a", "x", size=10**12)), r"member 'a' claims 10{12} bytes of data"),
        (layer(file("a", "x", size=-1)), "member 'a' claims -1 bytes of data"),
        (layer(file("a", pax=[("size", "-5")])), "the size in a pax header is not a decimal number"),
        (layer(file("a", pax=[("size", "99999999")])), "member 'a' claims 99999999 bytes of data"),
        (layer(file("a", pax=[("size", "5x")])), "the size in a pax header is not a decimal number"),
        (layer(file("a", pax=[("uid", "root")])), "the uid in a pax header is not a decimal number"),
        (layer(file("a", pax=[("mtime", "now")])), "a pax time is not a number"),
        (member(Header(b"x", b"x", size=7), b"garbage") + file("a"), "a pax record"),
        (member(Header(b"x", b"x", size=2**21), b"") + file("a"), "claims 2097152 bytes"),
        (member(Header(b"L", b"L", size=-1)) + file("a"), "claims -1 bytes"),
        (member(Header(b"L", b"L", size=5000)) + file("a"), "claims 5000 bytes"),
        (layer(member(Header(b"\xff\n", b"Z"))), r"member '\\\\xff\\n' has the unknown type"),
    ],
)
def test_damaged(tar: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        members(tar)


def test_every_truncation_is_an_error_or_a_prefix() -> None:
    tar = file("a", "x" * 700) + file(LONG, "y") + symlink("s", "t" * 150, fmt="gnu") + file("b", "z")
    whole = members(tar + end())
    for size in range(0, len(tar), 64):
        try:
            found = members(tar[:size])
        except ValueError:
            continue
        assert found == whole[: len(found)], size


def test_bad_octal_fields() -> None:
    for at, width in ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12)):
        header = bytearray(Header(b"a").encode())
        header[at : at + width] = b"z" * width
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        with pytest.raises(ValueError, match="is not an octal number"):
            members(bytes(header) + end())


def test_base256_size() -> None:
    header = bytearray(Header(b"a").encode())
    header[124:136] = base256(3, 12)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert only(bytes(header) + b"abc".ljust(512, b"\0")).size == 3
