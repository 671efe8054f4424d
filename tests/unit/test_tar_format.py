"""Fields of tar headers: numbers, texts, checksums, pax records and times."""

from __future__ import annotations

import pytest

from bootc_live.formats.tar.header import HEADER, checksum_matches, number, pax_records, text, timestamp
from tests.lib import tar_writer
from tests.lib.linear import check_linear
from tests.lib.tar_writer import Header, base256, octal


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"0000644\0", 0o644),
        (b"000644 \0", 0o644),
        (b"   644 \0", 0o644),
        (b"644\0\0\0\0\0", 0o644),
        (b"644     ", 0o644),
        (b"00000644", 0o644),
        (b"7777777", 0o7777777),
        (b"\0" * 8, 0),
        (b" " * 8, 0),
        (b"", 0),
        (b"1\0garbage", 1),
        (b"777777777777", 8**12 - 1),
        (b"\x80\0\0\0\0\0\0\x05", 5),
        (b"\x80\0\0\0\x02\0\0\0\0\0\0\0", 2 * 2**56),
        (b"\xff" * 12, -1),
        (b"\xff\xff\xff\xff\xff\xff\xff\x00", -256),
        (b"\xc0" + bytes(7), -(2**62)),
        (b"\xbf" + b"\xff" * 7, 2**62 - 1),
    ],
)
def test_number(field: bytes, value: int) -> None:
    assert (number(field) if field else number(b"\0")) == value


@pytest.mark.parametrize("value", [0, 1, 7, 8, 0o7777, 8**11 - 1, 8**11, 2**40, -1, -1_000_000_000, 2**63, -(2**63)])
def test_number_reads_what_is_written(value: int) -> None:
    assert number(tar_writer.number(value, 12)) == value
    if 0 <= value < 8**11:
        assert number(octal(value, 12)) == value
    assert number(base256(value, 12)) == value


@pytest.mark.parametrize("field", [b"8\0", b"9", b"0x1f", b"12 34", b"abc", b"1.5", b"\x7f", b"-"])
def test_not_a_number(field: bytes) -> None:
    with pytest.raises(ValueError, match="is not an octal number"):
        number(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"name\0\0\0", b"name"),
        (b"full", b"full"),
        (b"", b""),
        (b"\0x", b""),
        (b"a\0b\0", b"a"),
        (b"\xff\xfe\0", b"\xff\xfe"),
    ],
)
def test_text(field: bytes, value: bytes) -> None:
    assert text(field) == value


def test_checksum() -> None:
    header = Header(b"name", size=5).encode()
    assert checksum_matches(header, HEADER.unpack(header)[6])


@pytest.mark.parametrize("fill", [b"\xff", b"\x80", b"z", b"\x01"])
def test_checksum_of_extreme_headers(fill: bytes) -> None:
    """The sums of such headers pass 65,521, where the quick way wraps."""
    name, link = fill * 100, fill * 100
    header = Header(name, b"2", 0o7777, 2**21 - 1, 2**21 - 1, 8**11 - 1, 8**11 - 1, link, prefix=fill * 155).encode()
    assert checksum_matches(header, HEADER.unpack(header)[6])


@pytest.mark.parametrize("error", [1, -1, 256, -300, 8**4])
def test_wrong_checksum(error: int) -> None:
    header = Header(b"name", size=5, checksum_error=error).encode()
    assert not checksum_matches(header, HEADER.unpack(header)[6])


def test_any_changed_byte_shows() -> None:
    header = Header(b"name", size=5, linkname=b"link").encode()
    # The last byte of the checksum's own field means nothing.
    for at in {*range(len(header))} - {155}:
        changed = bytearray(header)
        changed[at] ^= 0x01
        assert not checksum_matches(bytes(changed), HEADER.unpack(changed)[6]), at


@pytest.mark.parametrize("field", [b"abcdefg\0", b"9999999\0", b"\xff" * 8])
def test_checksum_that_is_no_number(field: bytes) -> None:
    assert not checksum_matches(bytes(512), field)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [(b"path", b"a")],
        [(b"path", b"a\nb=c d"), (b"mtime", b"1.5")],
        [(b"a", b"x" * 90), (b"b", b"x" * 91), (b"c", b"x" * 92), (b"d", b"x" * 990), (b"e", b"x" * 9_990)],
        [(b"SCHILY.xattr.security.capability", bytes(range(256)))],
        [(b"empty", b"")],
        [(b"same", b"1"), (b"same", b"2")],
        [(b"k", b"=")],
        [("ключ".encode(), "значение".encode())],
    ],
    ids=range(9),
)
def test_pax_records(records: list[tuple[bytes, bytes]]) -> None:
    written = tar_writer.pax_records([(key.decode(), value) for key, value in records])
    assert pax_records(written) == records


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"path=a\n",
        b" path=a\n",
        b"9 path=a\n ",
        b"8 path=a\n",
        b"11 path=a\n",
        b"9 path=ab",
        b"9 patha1\n",
        b"5 =a\n",
        b"2 \n",
        b"0 path=a\n",
        b"-9 path=a\n",
        b"+9 path=a\n",
        b"9999999999999999999999 path=a\n",
        b"9path=a\n",
        b"\0" * 512,
        b"9 path=a\n\0",
        b"9 path=a\n9 path=",
    ],
)
def test_damaged_pax_records(data: bytes) -> None:
    with pytest.raises(ValueError, match="a pax record"):
        pax_records(data)


def test_many_pax_records_are_quick() -> None:
    """A header of the largest size that is read, full of the shortest records."""
    check_linear(lambda count: pax_records(b"5 a=\n" * count), 25_000)


@pytest.mark.parametrize(
    ("value", "seconds", "nanoseconds"),
    [
        (b"0", 0, 0),
        (b"1600000000", 1_600_000_000, 0),
        (b"1600000000.5", 1_600_000_000, 500_000_000),
        (b"1600000000.123456789", 1_600_000_000, 123_456_789),
        (b"1600000000.1234567899", 1_600_000_000, 123_456_789),
        (b"1600000000.000000001", 1_600_000_000, 1),
        (b"1600000000.", 1_600_000_000, 0),
        (b"-1", -1, 0),
        (b"-1.25", -2, 750_000_000),
        (b"-0.5", -1, 500_000_000),
        (b"-0", 0, 0),
        (b"00000000001.10", 1, 100_000_000),
        (b"253402300800", 253_402_300_800, 0),
    ],
)
def test_timestamp(value: bytes, seconds: int, nanoseconds: int) -> None:
    assert timestamp(value) == (seconds, nanoseconds)


@pytest.mark.parametrize(
    "value", [b"", b".", b".5", b"x", b"1e9", b"1,5", b"+1", b"--1", b" 1", b"1 ", b"1.5.5", b"1\n"]
)
def test_not_a_timestamp(value: bytes) -> None:
    with pytest.raises(ValueError, match="a pax time is not a number"):
        timestamp(value)
