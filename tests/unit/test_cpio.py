"""Archives in the format "newc" are what kernels and cpio(1) take, and are read back as they were written."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.cpio import CpioFile, directories, header, padding, read_headers, trailer
from tests.lib.needs import needs

FILES = {"usr/lib/x/one": b"1", "usr/lib/x/four": b"four", "usr/share/empty": b"", "é": b"12345"}


def archive(files: dict[str, bytes]) -> bytes:
    """A whole archive, directories first."""
    made = b"".join(header(name, 0o40755, 0, number) for number, name in enumerate(directories(files), 1))
    for number, (name, content) in enumerate(files.items(), 100):
        made += header(name, 0o100640, len(content), number, 86400) + content + padding(len(content))
    return made + trailer()


def read(data: bytes, step: int = 7) -> list[CpioFile]:
    """The members, read from chunks of a few bytes."""
    return list(read_headers(PeekableStream(data[at : at + step] for at in range(0, len(data), step))))


def test_header_is_what_the_kernel_documents() -> None:
    """One member, number by number."""
    numbers = ("00000007", "000081A4", *["00000000"] * 2, "00000001", "0000000A", "00000005", *["00000000"] * 4)
    assert header("a/b", 0o100644, 5, 7, 10) == f"070701{''.join(numbers)}0000000400000000a/b\0\0\0".encode()
    assert header("d", 0o40755, 0, 1)[38:46] == b"00000002"


@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd", "é"])
def test_everything_is_padded_to_four(name: str) -> None:
    assert len(header(name, 0o100644, 3, 1)) % 4 == 0
    assert len(trailer()) % 4 == 0
    assert [padding(size) for size in range(5)] == [b"", bytes(3), bytes(2), bytes(1), b""]


def test_the_largest_file() -> None:
    assert b"FFFFFFFF" in header("x", 0o100644, 2**32 - 1, 1)
    with pytest.raises(ValueError, match="'x' has 4294967296 bytes"):
        header("x", 0o100644, 2**32, 1)


def test_directories_come_top_first_and_once() -> None:
    assert directories(["a/b/c", "d", "a/e/f", "a/b/g"]) == ["a", "a/b", "a/e"]
    assert directories([]) == []
    assert directories(["/x/y"]) == ["/x"]


@pytest.mark.parametrize("step", [1, 7, 110, 1 << 20])
def test_what_is_written_is_read(step: int) -> None:
    data = archive(FILES)
    members = read(data, step)
    assert [member.name for member in members] == ["usr", "usr/lib", "usr/lib/x", "usr/share", *FILES]
    assert [stat.S_ISDIR(member.mode) for member in members] == [True] * 4 + [False] * 4
    assert {member.name: data[member.offset : member.offset + member.size] for member in members[4:]} == FILES


@needs("cpio")
def test_cpio_unpacks_it(tmp_path: Path) -> None:
    subprocess.run(["cpio", "-idm", "--quiet"], input=archive(FILES), cwd=tmp_path, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == FILES
    made = (tmp_path / "usr/lib/x/one").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_nlink, made.st_mtime) == (0o640, 1, 86400)


@needs("cpio")
@pytest.mark.parametrize("form", ["newc", "crc"])
def test_what_cpio_packs_is_read(form: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"content")
    os.symlink("f", tmp_path / "d/l")
    packed = subprocess.run(
        ["cpio", "-o", "--quiet", "-H", form], input=b"d\nd/f\nd/l\n", cwd=tmp_path, check=True, stdout=subprocess.PIPE
    ).stdout
    assert len(packed) % 512 == 0
    assert [(member.name, member.size) for member in read(packed)] == [("d", 0), ("d/f", 7), ("d/l", 1)]


def test_several_archives_are_read_on() -> None:
    """With zeros between them, as microcode archives have."""
    one, two = archive({"a": b"x"}), archive({"b": b"y"})
    assert [member.name for member in read(one + bytes(400) + two)] == ["a", "b"]


@pytest.mark.parametrize("behind", [b"\x1f\x8bgzip", b"xyz"])
def test_what_follows_is_left_alone(behind: bytes) -> None:
    feed = PeekableStream(iter([archive({"a": b"x"}), bytes(8), behind]))
    assert [member.name for member in read_headers(feed)] == ["a"]
    assert feed.peek(20) == behind


def test_an_archive_out_of_line_is_no_archive() -> None:
    """The kernel looks for one at multiples of four only."""
    one, two = archive({"a": b"x"}), archive({"b": b"y"})
    assert [member.name for member in read(one + bytes(3) + two)] == ["a"]


def test_no_trailer_is_no_error() -> None:
    data = header("a", 0o100644, 3, 1) + b"abc"
    assert [member.name for member in read(data)] == ["a"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header("a", 0o100644, 3, 1) + b"ab", "ends within 'a'"),
        (header("a", 0o100644, 3, 1)[:80], "header of the cpio archive is damaged"),
        (b"070707" + bytes(200), "header of the cpio archive is damaged"),
        (header("a", 0o100644, 3, 1).replace(b"000081A4", b"-0x081A4"), "header of the cpio archive is damaged"),
        (header("a", 0o100644, 0, 1).replace(b"00000002", b"00000000"), "a name in the cpio archive is damaged"),
        (header("a", 0o100644, 0, 1).replace(b"00000002", b"0FFFFFFF"), "a name in the cpio archive is damaged"),
        (header("abcdef", 0o100644, 0, 1)[:112], "ends within a name"),
    ],
)
def test_damage_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(data)


def chunks(taken: list[bytes]) -> Iterator[bytes]:
    """Chunks that leave a trace when they are read."""
    for number in range(4):
        taken.append(b"chunk%d " % number)
        yield taken[-1]


def test_a_feed_reads_no_further_than_it_has_to() -> None:
    taken: list[bytes] = []
    feed = PeekableStream(chunks(taken))
    assert (feed.peek(3), feed.read(7), feed.position, len(taken)) == (b"chu", b"chunk0 ", 7, 1)
    assert (feed.read_some(3), feed.position, len(taken)) == (b"chu", 10, 2)
    feed.unread(2)
    assert (feed.read(6), feed.position, len(taken)) == (b"hunk1 ", 14, 2)
    assert (feed.skip(7), feed.read(100), feed.read_some(1), feed.position) == (True, b"chunk3 ", b"", 28)
    assert feed.skip(1) is False


def test_a_feed_passes_over_zeros() -> None:
    feed = PeekableStream(iter([b"\0\0", b"", b"\0" * 200_000, b"\0\0a\0"]))
    feed.skip_zeros()
    assert (feed.position, feed.read(9)) == (200_004, b"a\0")
