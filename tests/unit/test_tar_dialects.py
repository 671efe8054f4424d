"""What everybody else reads: headers of old and odd tars, and forms that only some readers take, which nobody may."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from bootc_live.formats.tar import reader as tar_reader
from bootc_live.formats.tar.header import checksum_matches, number
from bootc_live.formats.tar.reader import Member, read_members
from tests.lib.tar_writer import (
    Header,
    Name,
    directory,
    file,
    layer,
    member,
    padded,
    pax_header,
    sparse_gnu,
    sparse_pax,
    symlink,
    xattr,
)

V7 = bytes(8)
FIELDS = {"mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12)}


def members(*parts: bytes) -> list[Member]:
    return list(read_members(layer(*parts)))


def summed(block: bytes, *, signed: bool = False) -> bytes:
    """A header with its checksum made right again."""
    blank = block[:148] + b" " * 8 + block[156:]
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in blank)
    return blank[:148] + b"%06o\0 " % total + blank[156:]


def with_field(part: bytes, name: str, value: bytes) -> bytes:
    """A member with the bytes of one field replaced."""
    start, width = FIELDS[name]
    return summed(part[:start] + value.ljust(width, b"\0") + part[start + width : 512]) + part[512:]


@dataclass(frozen=True)
class Row:
    """A tar, and the (name, kind, size) that all readers find; those of GNU tar where it differs."""

    parts: tuple[bytes, ...]
    found: list[tuple[str, str, int]]
    gnu: bool = True


def prefixed(magic: bytes) -> bytes:
    return member(Header(b"b", size=1, magic=magic, prefix=b"usr/lib"), b"x")


def old(name: bytes, size: int = 0, data: bytes = b"") -> bytes:
    return member(Header(name, b"\0", size=size, magic=V7), data)


LAST = file("z", "x")
THEN = ("z", "file", 1)
ROWS = {
    **{
        f"a prefix, version {version!r}": Row((prefixed(b"ustar\0" + version),), [("usr/lib/b", "file", 1)])
        for version in (b"00", b"  ", b" \0", b"\0\0", b"0\0", b"\xff\xff")
    },
    "GNU's magic, no prefix": Row((prefixed(b"ustar  \0"),), [("b", "file", 1)]),
    "no magic, no prefix": Row((prefixed(V7),), [("b", "file", 1)]),
    "a directory of v7 with a size": Row((old(b"d/", 1), LAST), [("d/", "dir", 0), THEN], gnu=False),
    "a directory of v7 with a size of blocks": Row((old(b"d/", 5000), LAST), [("d/", "dir", 0), THEN], gnu=False),
    "a directory of v7 by a long name": Row(
        (file("d" * 120 + "/", size=9, fmt="gnu", typeflag=b"\0"), LAST), [("d" * 120 + "/", "dir", 0), THEN], gnu=False
    ),
    "a directory of v7 with a size by pax": Row(
        (member(Header(b"d/", b"\0", size=0), pax=[("size", "77")]), LAST), [("d/", "dir", 0), THEN], gnu=False
    ),
    "a directory with a size": Row((member(Header(b"d/", b"5", size=512)), LAST), [("d/", "dir", 0), THEN], gnu=False),
    "a link with a size by pax": Row(
        (member(Header(b"l", b"2", linkname=b"t"), pax=[("size", "512")]), LAST), [("l", "symlink", 0), THEN], gnu=False
    ),
    "the last of two x headers": Row(
        (pax_header([("path", "first"), ("mtime", "7")]), pax_header([("path", "second")]), LAST),
        [("second", "file", 1)],
    ),
    "an x header that takes all back": Row(
        (pax_header([("path", "first")]), pax_header([("comment", "nothing")]), LAST), [THEN], gnu=False
    ),
    "Solaris' letter for pax": Row(
        (pax_header([("path", "other")], "X"), LAST, file("y")), [("other", "file", 1), ("y", "file", 0)]
    ),
    "the last of two long names": Row(
        (file("a" * 120, fmt="gnu")[:1024], file("b" * 120, "x", fmt="gnu")), [("b" * 120, "file", 1)]
    ),
    "NUL in front of a number": Row((with_field(LAST, "mtime", b"\x001722000726 "),), [THEN]),
    "NULs and blanks in front": Row((with_field(LAST, "size", b" \0 0000001\0"),), [THEN], gnu=False),
    "a size of blanks": Row((with_field(file("a"), "size", b" " * 12), LAST), [("a", "file", 0), THEN], gnu=False),
    "a mode of NULs": Row((with_field(LAST, "mode", b""),), [THEN]),
    "bytes summed as signed": Row((summed(file(b"caf\xe9"), signed=True), LAST), [("caf\\351", "file", 0), THEN]),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_all_read(row: str) -> None:
    wanted = ROWS[row]
    found = [(entry.name.decode("latin-1"), entry.kind, entry.size) for entry in members(*wanted.parts)]
    assert [(name.replace("\xe9", "\\351"), kind, size) for name, kind, size in found] == wanted.found


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.gnu])
def test_gnu_tar_reads_the_same(row: str) -> None:
    wanted = ROWS[row]
    listed = subprocess.run(
        ["tar", "-tvf", "-", "--numeric-owner"], input=layer(*wanted.parts), capture_output=True, check=True
    ).stdout.decode()
    kinds = {"-": "file", "d": "dir", "l": "symlink"}
    lines = [line.partition(" -> ")[0].split() for line in listed.splitlines()]
    assert [(words[-1], kinds[words[0][0]], int(words[2])) for words in lines] == wanted.found


def test_values_behind_odd_fields() -> None:
    (found,) = members(with_field(LAST, "mtime", b"\x001722000726 "))
    assert found.mtime == 0o1722000726
    (found,) = members(pax_header([("uid", "7"), xattr("user.a", "1")]), pax_header([("gid", "8")]), LAST)
    assert (found.uid, found.gid, found.xattrs) == (0, 8, {})


def test_a_signed_sum_does_not_hide_damage() -> None:
    good = summed(file(b"caf\xe9\xe8" * 10), signed=True)
    assert checksum_matches(good, good[148:156])
    for at in (0, 4, 130, 300):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        assert not checksum_matches(bad, bad[148:156])


PYTHONS = [b"0o17", b"0O7", b"1_0", b"+7", b"-7", b"0x7", b"0b1", b"1e1", b"7L", b"\xd9\xa1", b"1 2", b"\x0b1\x00 8_"]


@pytest.mark.parametrize("field", [*PYTHONS[:9], b"\0x", b" 8", b"\0+1", b"1\t2"])
def test_no_other_forms_of_octal(field: bytes) -> None:
    with pytest.raises(ValueError, match="is not an octal number"):
        number(field.ljust(12, b"\0"))
    for name in FIELDS:
        with pytest.raises(ValueError, match="is not an octal number"):
            members(with_field(file("a"), name, field))


@pytest.mark.parametrize("keyword", ["size", "uid", "gid"])
@pytest.mark.parametrize(
    "value", [*PYTHONS, b" 7", b"7 ", b"7\n", b"7\0", b"\xef\xbc\x97", b"\xb2", b"1" * 65, b"9" * 5000, b"1.0"]
)
def test_no_other_forms_of_decimal(keyword: str, value: bytes) -> None:
    with pytest.raises(ValueError, match=f"the {keyword} in a pax header is not a"):
        members(file("a", "x", pax=[(keyword, value)]))


def sparse_maps(value: bytes) -> list[bytes]:
    head: list[tuple[str, Name]] = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]
    body = padded(b"1\n%s\n1\n" % value) + b"x"
    counted = padded(b"%s\n0\n1\n" % value) + b"x"
    return [
        file("s", "x", pax=[("GNU.sparse.map", value + b",1"), ("GNU.sparse.size", "99")]),
        file("s", "x", pax=[("GNU.sparse.map", b"0," + value), ("GNU.sparse.size", "99")]),
        file("s", "x", pax=[("GNU.sparse.offset", value), ("GNU.sparse.numbytes", "1"), ("GNU.sparse.size", "99")]),
        file("s", "x", pax=[("GNU.sparse.map", "0,1"), ("GNU.sparse.size", value)]),
        file("s", "x", pax=[*head, ("GNU.sparse.realsize", value)]),
        member(Header(b"s", size=len(body)), body, pax=[*head, ("GNU.sparse.realsize", "99")]),
        member(Header(b"s", size=len(counted)), counted, pax=[*head, ("GNU.sparse.realsize", "99")]),
    ]


@pytest.mark.parametrize("value", [b"0o1", b"1_0", b"+1", b" 1", b"1 ", b"-0", b"\xd9\xa1", b"9" * 5000, b"\xb2"])
def test_no_other_forms_in_sparse_maps(value: bytes) -> None:
    for part in sparse_maps(value):
        with pytest.raises(ValueError, match="the map of a sparse member"):
            members(part)


NUL_ROWS = {
    "path": file("a", pax=[("path", b"a\0b")]),
    "linkpath": symlink("a", "t", pax=[("linkpath", b"t\0u")]),
    "sparse name": file("a", pax=[("GNU.sparse.major", "1"), ("GNU.sparse.name", b"a\0b")]),
    "user's name": file("a", pax=[("uname", b"ro\0ot")]),
    "xattr": file("a", pax=[xattr("user.a\0b", "v")]),
    "any keyword": file("a", pax=[("comm\0ent", "v")]),
    "of all members": pax_header([xattr("user.a\0b", "v")], "g") + file("a"),
}


@pytest.mark.parametrize("row", NUL_ROWS)
def test_no_nul_in_names(row: str) -> None:
    with pytest.raises(ValueError, match="NUL byte in a name"):
        members(NUL_ROWS[row])


def test_nul_in_values_is_content() -> None:
    (found,) = members(file("a", pax=[xattr("user.a", b"\0v\0"), ("comment", b"\0")]))
    assert found.xattrs == {b"user.a": b"\0v\0"}


def test_a_sparse_header_of_gnu_needs_gnus_magic() -> None:
    """In ustar the prefix stands where the map does."""
    part = sparse_gnu("s", 5000, [(512, b"x" * 512)])
    for magic in (b"ustar\x0000", V7):
        with pytest.raises(ValueError, match="its header is not of GNU tar"):
            members(summed(part[:257] + magic + part[265:512]) + part[512:])


def test_sparse_keywords_are_for_files_and_for_one_member() -> None:
    say = [("GNU.sparse.map", "0,1"), ("GNU.sparse.size", "5000"), ("GNU.sparse.name", "other")]
    found = members(directory("d/", pax=say), pax_header(say, "g"), file("a", "x"))
    assert [(entry.name, entry.size, entry.extents) for entry in found] == [(b"d/", 0, None), (b"a", 1, None)]


GENERAL = pax_header([xattr("user.a", "v" * 500)], "g")
# What one tar may hold.
COUNTS: dict[str, tuple[str, int, bytes, str]] = {
    "members": ("MOST_MEMBERS", 3, file("a") * 4, "more than 3 members"),
    "names": ("MOST_TEXT", 399, file("n" * 200) * 2, "399 bytes of names, links and attributes"),
    "links": ("MOST_TEXT", 99, symlink("l", "n" * 50) * 2, "99 bytes of names"),
    "attributes": ("MOST_TEXT", 999, file("a", pax=[xattr("user.a", "v" * 500)]) * 2, "999 bytes of names"),
    "attributes beside global ones": (
        "MOST_TEXT", 1000, GENERAL + file("a") * 90 + file("a", pax=[xattr("user.b", "")]), "1000 bytes of names"
    ),
    "global attributes that change": ("MOST_TEXT", 1000, (GENERAL + file("a")) * 2, "1000 bytes of names"),
    "a map": ("MOST_MAP_ENTRIES", 3, sparse_gnu("s", 9999, [(at, b"x") for at in range(4)]), "too many entries"),
    "a long map": ("MOST_MAP_ENTRIES", 30, sparse_gnu("s", 9999, [(at, b"x") for at in range(31)]), "too many entries"),
    "maps of GNU": ("MOST_MAP_ENTRIES", 3, sparse_gnu("s", 9, [(1, b"x"), (3, b"y")]) * 2, "too many entries"),
    "maps of pax 1.0": ("MOST_MAP_ENTRIES", 3, sparse_pax("s", 9, [(1, b"x"), (3, b"y")]) * 2, "too many entries"),
    "maps of pax 0.1": (
        "MOST_MAP_ENTRIES", 3, sparse_pax("s", 9, [(1, b"x"), (3, b"y")], version="0.1") * 2, "too many entries"
    ),
    "maps of pax 0.0": (
        "MOST_MAP_ENTRIES", 3, sparse_pax("s", 9, [(1, b"x"), (3, b"y")], version="0.0") * 2, "too many entries"
    ),
    "empty entries": ("MOST_MAP_ENTRIES", 3, sparse_pax("s", 9, [(9, b"")] * 4), "too many entries"),
}  # fmt: skip


@pytest.mark.parametrize("row", COUNTS)
def test_bounds(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, most, tar, message = COUNTS[row]
    monkeypatch.setattr(tar_reader, what, most)
    with pytest.raises(ValueError, match=message):
        members(tar)
    monkeypatch.setattr(tar_reader, what, 10 * most)
    members(tar)


def test_what_members_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_reader, "MOST_TEXT", 1000)
    assert len(members(GENERAL, file("a") * 99)) == 99


def test_names_of_attributes_are_those_that_linux_can_list() -> None:
    pax = [xattr(f"user.{at:0250}", "v") for at in range(256)]
    assert [len(entry.xattrs) for entry in members(file("a", pax=pax))] == [256]
    with pytest.raises(ValueError, match="257 extended attributes, whose names are more than Linux can list"):
        members(file("a", pax=[*pax, xattr("a", "v")]))


def test_what_all_members_have_is_little() -> None:
    with pytest.raises(ValueError, match="have more than 16384 bytes"):
        members(*(pax_header([xattr(f"user.{number}", "v" * 5000)], "g") for number in range(4)), file("a"))
    members(*[pax_header([xattr("user.a", "v" * 5000), ("comment", "c" * 99_999)], "g") for _ in range(4)], file("a"))


LINEAR: dict[str, Callable[[int], bytes]] = {
    "global headers": lambda count: b"".join(pax_header([(f"k{at}", "v")], "g") for at in range(count)),
    "members behind much of global": lambda count: (
        pax_header([(f"comment{at}", "v") for at in range(count)], "g") + b"".join(file(f"{at}") for at in range(count))
    ),
    "global attributes": lambda count: (
        pax_header([xattr(f"user.{at}", "v") for at in range(400)], "g")
        + b"".join(file(f"{at}") for at in range(count))
    ),
    "global attributes again and again": lambda count: (
        pax_header([xattr(f"user.{at}", "v") for at in range(400)], "g") + pax_header([("uid", "1")], "g") * count
    ),
    "x headers before a member": lambda count: pax_header([("path", "a")]) * count + file("a"),
    "repeated keywords of sparse 0.0": lambda count: sparse_pax(
        "s", count, [(at, b"x") for at in range(count)], version="0.0"
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_time_is_linear(case: str) -> None:
    """Ten times the input, at most so many times the time."""

    def spent(count: int) -> float:
        tar = layer(LINEAR[case](count))
        began = time.process_time()
        for _ in read_members(tar):
            pass
        return time.process_time() - began

    assert spent(5000) < 20 * max(spent(500), 0.02)


def test_replaced_magic_changes_nothing_else() -> None:
    whole = Header(b"name", mode=0o640, uid=3, gid=4, size=0, mtime=77)
    (first,) = members(whole.encode())
    for magic in (b"ustar  \0", V7, b"ustar\x0000"):
        assert members(replace(whole, magic=magic).encode()) == [first]
