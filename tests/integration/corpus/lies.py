"""Headers that lie about sizes, numbers and lengths."""

from __future__ import annotations

from tests.integration.corpus.attack import Outcome, lie
from tests.lib.tar_writer import (
    Header,
    directory,
    file,
    member,
    node,
    padded,
    pax_header,
    sparse_gnu,
    sparse_pax,
    symlink,
    xattr,
)

EITHER, USED = Outcome.EITHER, Outcome.USED
FIELDS = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "devmajor": 329}


def _with_field(plain: bytes, field: str, value: bytes) -> bytes:
    """A member with the raw text of one numeric field replaced and the checksum made right again."""
    start = FIELDS[field]
    block = bytearray(plain[:512])
    block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + plain[512:]


def _pax_body(body: bytes, size: int | None = None) -> bytes:
    header = Header(b"PaxHeaders/0", b"x", size=len(body) if size is None else size)
    return header.encode() + padded(body) + file("a", "x")


def _sparse(numbers: list[int], realsize: int, data: bytes = b"A" * 512) -> bytes:
    body = padded("".join(f"{n}\n" for n in numbers).encode()) + data
    records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s")]
    return member(Header(b"s", size=len(body)), body, pax=[*records, ("GNU.sparse.realsize", str(realsize))])


def _pax(**records: str) -> bytes:
    return file("a", "x", pax=records.items())


ATTACKS = (
    lie("size-beyond-the-end", file("a", "x", size=10**6)),
    lie("size-of-the-end-blocks-too", file("a", "x", size=1025), outcome=USED),
    lie("size-8-eib", file("a", "x", size=2**63 - 1)),
    lie("size-beyond-64-bits", file("a", "x", size=2**80)),
    lie("size-negative", file("a", "x", size=-512)),
    lie("size-too-small", file("a", "x" * 2000, size=10), file("b", "y")),
    lie("size-pax-huge", _pax(size="9" * 30)),
    lie("size-pax-4300-digits", _pax(size="9" * 5000)),
    lie("size-pax-negative", _pax(size="-512")),
    lie("size-pax-text", _pax(size="12abc")),
    lie("size-pax-fraction", _pax(size="1.5")),
    *(
        lie(f"{field}-not-octal", _with_field(file("a", "x"), field, b"9z!"))
        for field in ("mode", "uid", "size", "mtime")
    ),
    lie("checksum-wrong", member(Header(b"a", size=1, checksum_error=1), b"x")),
    lie("checksum-not-octal", file("a", "x")[:148] + b"zzzzzz\0 " + file("a", "x")[156:]),
    lie("not-a-tar", bytes(range(256)) * 8),
    lie("header-cut", file("a", "x") + file("b", "y")[:300]),
    lie("pax-length-zero", _pax_body(b"0 a=b\n")),
    lie("pax-length-negative", _pax_body(b"-6 a=b\n")),
    lie("pax-length-too-long", _pax_body(b"99 a=b\n")),
    lie("pax-length-too-short", _pax_body(b"4 a=b\n")),
    lie("pax-length-of-5000-digits", _pax_body(b"9" * 5000 + b" a=b\n")),
    lie("pax-no-newline", _pax_body(b"6 a=bc")),
    lie("pax-no-equals", _pax_body(b"6 abc\n")),
    lie("pax-no-key", _pax_body(b"5 =b\n")),
    lie("pax-garbage", _pax_body(b"\xff" * 100)),
    lie("pax-1-tib", _pax_body(b"6 a=b\n", size=2**40)),
    lie("pax-8-mib", _pax(comment="c" * (8 << 20)), outcome=EITHER),
    lie("pax-at-the-end", file("a", "x"), pax_header([("path", "b")]), outcome=USED),
    lie("gnu-name-1-tib", Header(b"././@LongLink", b"L", size=2**40).encode() + file("a", "x")),
    lie("gnu-name-negative", Header(b"././@LongLink", b"L", size=-1).encode() + file("a", "x")),
    lie("mtime-text", _pax(mtime="tomorrow")),
    lie("mtime-exponent", _pax(mtime="1e999999999")),
    lie("mtime-nan", _pax(mtime="NaN")),
    lie("mtime-infinite", _pax(mtime="Infinity")),
    lie("mtime-beyond-64-bits", _pax(mtime="9" * 30)),
    lie("mtime-below-64-bits", _pax(mtime="-" + "9" * 30)),
    lie("mtime-base256-beyond-64-bits", file("a", "x", mtime=2**80, fmt="gnu")),
    lie("uid-negative", _pax(uid="-1")),
    lie("uid-beyond-32-bits", _pax(uid=str(2**32))),
    lie("gid-text", _pax(gid="wheel")),
    lie("device-too-large", node("n", "char", 2**20, 2**30)),
    lie("device-negative", node("n", "block", -1, -1)),
    lie("xattr-name-of-300-bytes", file("a", "x", pax=[xattr("user." + "k" * 300, "v")])),
    lie("xattr-of-70000-bytes", file("a", "x", pax=[xattr("user.k", "v" * 70_000)])),
    lie("xattr-half-a-mib", file("a", "x", pax=[xattr(f"user.k{i}", "v" * 60_000) for i in range(10)])),
    lie("sparse-beyond-the-size", _sparse([1, 0, 512], 100)),
    lie("sparse-beyond-the-data", _sparse([1, 0, 10**6], 10**6)),
    lie("sparse-overlap", _sparse([2, 0, 512, 256, 512], 4096, b"A" * 1024)),
    lie("sparse-unordered", _sparse([2, 1024, 512, 0, 512], 4096, b"A" * 1024)),
    lie("sparse-negative", _sparse([1, -512, 512], 4096)),
    lie("sparse-count-lies", _sparse([10**9, 0, 512], 4096)),
    lie("sparse-count-negative", _sparse([-1, 0, 512], 4096)),
    lie("sparse-4-eib", sparse_pax("s", 2**62, [(0, b"A" * 512)])),
    lie("sparse-beyond-64-bits", sparse_pax("s", 2**80, [(0, b"A" * 512)])),
    lie("sparse-size-negative", _sparse([1, 0, 512], -5)),
    lie("sparse-gnu-4-eib", sparse_gnu("s", 8**11 - 1, [(0, b"A" * 512)])[:483] + b"\x80" + b"\x40" * 28),
    lie("sparse-gnu-map-cut", sparse_gnu("s", 40 * 8192, [(i * 8192, b"x" * 512) for i in range(40)])[:1024]),
    lie("type-hardlink-to-root", directory("d/"), member(Header(b"h", b"1", linkname=b"."))),
    lie("type-nameless-symlink", symlink("", "x")),
)
