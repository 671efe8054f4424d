"""The tar around an image: read like any other tar, and no more of it than an archive of images has."""

from __future__ import annotations

import gzip
import io
import random
import resource
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.source.archive import tar
from bootc_live.source.archive.files import TarFiles
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.archive.reader import FileReader
from bootc_live.source.archive.tar import StreamBuffer, read_entries
from bootc_live.source.interface import Member, StreamSource
from tests.lib.acquiring import Streamed, acquired, contents
from tests.lib.archive_members import oci_members
from tests.lib.needs import need
from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
NOISE = random.Random(5)
# A blob that keeps its zeros, where one is not compressed.
HOLED = b"A" * 4096 + bytes(400_000) + NOISE.randbytes(5000) + bytes(300_077)
IMAGE = Image(
    [Layer(layer(file("zeros", HOLED), file("x", "y")), "none"), Layer(layer(file("z", "1")))], architecture=HERE
)
FORMS = (
    ["tar", "-S", "--format=gnu"],
    ["tar", "-S", "--format=posix", "--sparse-version=0.0"],
    ["tar", "-S", "--format=posix", "--sparse-version=0.1"],
    ["tar", "-S", "--format=posix", "--sparse-version=1.0"],
    ["bsdtar", "--format=pax"],
    ["tar", "--format=ustar"],
)


def packed(where: Path, command: list[str]) -> Path:
    """The image in an archive that another program made, with holes where it makes such."""
    need(command[0])
    layout = write_layout(where / "layout", IMAGE)
    for blob in (layout / "blobs/sha256").iterdir():
        subprocess.run(["fallocate", "--dig-holes", blob], check=True)
    path = where / "a.oci"
    subprocess.run([*command, "-cf", path, "-C", layout, "."], check=True)
    return path


@pytest.mark.parametrize("command", FORMS, ids=" ".join)
def test_holes_are_zeros(command: list[str], tmp_path: Path) -> None:
    """As a file, as a stream, and where bytes are looked up in the middle."""
    path = packed(tmp_path, command)
    holed = "S" in "".join(command) or command[0] == "bsdtar"
    assert (path.stat().st_size < 200_000) == holed
    wanted = oci_members(IMAGE)
    with path.open("rb") as opened:
        files = TarFiles(FileReader(opened.fileno(), "source"), "source")
        for name, content in wanted.items():
            assert isinstance(content, bytes)
            assert files.size(name) == len(content)
            with files.open(name) as chunks:
                assert b"".join(chunks) == content
            for _ in range(40):
                start, length = NOISE.randrange(len(content) + 9), NOISE.choice([0, 1, 700, 600_000])
                assert files.peek(name, start, length) == content[start : start + length]
    tars = [made.tar for made in IMAGE.layers]
    assert contents(acquired(tmp_path / "data", str(path))) == tars
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    assert contents(acquired(tmp_path / "again", str(path))) == tars
    with Streamed(path.read_bytes(), piece=997).source().members() as members:
        assert {member.name: b"".join(member.chunks) for member in members} == wanted


def entry(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A header that says this of its size, whatever follows it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def binary(number: int) -> bytes:
    """A size in base 256."""
    return (b"\xff" if number < 0 else b"\x80") + (number % 2**88).to_bytes(11, "big")


def pax(**said: str) -> bytes:
    """An extension header."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {name.replace("__", "."): value for name, value in said.items()}
    return info.tobuf(tarfile.PAX_FORMAT)[:-512]


def whole(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes(1024)


LONG = entry("././@LongLink", b"%011o\0" % 4, b"L") + b"abc\0".ljust(512, b"\0")
SPARSE = {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__name": "s"}
NUMBERS = ("-1", "-1024", "²", "1_0", "0x10", "+7", "9" * 5000, "1e9", "nan", " 5", "", str(2**63), str(2**90))
HOSTILE = {
    "chain of long names": whole(LONG * 4000, file("q", "1")),
    "chain of pax headers": whole(pax(path="a") * 4000, file("q", "1")),
    **{f"size {number}": whole(file("x", "1"), entry("a", binary(number))) for number in (-1, -512, -1024, -(2**40))},
    **{f"size {number}": whole(file("x", "1"), entry("a", binary(number))) for number in (2**40, 2**62, 2**80)},
    **{f"{kind!r} of size {number}": whole(entry("a", binary(number), kind), file("q", "1"))
       for kind in (b"L", b"K", b"x", b"g") for number in (-1024, -1, 2**21, 3 * 2**30, 2**80)},
    **{f"pax size {text[:9]}": whole(pax(size=text), entry("a", b"%011o\0" % 1), b"1".ljust(512, b"\0"))
       for text in NUMBERS},
    **{f"real size {text[:9]}": whole(pax(**SPARSE, GNU__sparse__realsize=text), file("s", "0\n".ljust(512, "\0")))
       for text in NUMBERS},
    **{f"map {text[:9]!r}": whole(pax(**SPARSE, GNU__sparse__realsize="9"), file("s", f"{text}\n".ljust(1024, "\0")))
       for text in (*NUMBERS[:-1], "9999999", "1\n0", "1\n8\n9", "2\n0\n5\n0\n5")},
    "old sparse without a map": whole(entry("a", b"%011o\0" % 0, b"S")),
    "a petabyte of holes": whole(pax(**SPARSE, GNU__sparse__realsize=str(2**50)), file("s", "0\n".ljust(512, "\0"))),
    "a character of another script": whole(entry("a", "٣".encode().rjust(12, b"0"))),
    "volume and directory": whole(entry("a", b"%011o\0" % 0, b"V"), entry("b", b"%011o\0" % 0, b"D")),
    "cut in a header": whole(file("x", "1"))[:700],
    "cut in data": file("x", "1" * 5000)[:2000],
    "cut in a long name": LONG[:600],
}  # fmt: skip


def names(raw: bytes) -> tuple[list[str], list[str]]:
    """The members' names as a file and as a stream; what cannot be read is `error` at the end."""
    streamed, found = [], []
    try:
        for member in _members(raw):
            streamed.append(member.name)
            sum(map(len, member.chunks))
    except SourceError:
        streamed.append("error")
    try:
        for made in read_entries(_Whole(raw)):
            found.append(made.name)  # noqa: PERF401
    except ValueError:
        found.append("error")
    return found, streamed


class _Whole(bytes):
    """Bytes as a Buffer."""


def _members(raw: bytes) -> Iterator[Member]:
    with Streamed(raw, piece=3000).source().members() as members:
        yield from members


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_end_the_source_and_no_more(what: str) -> None:
    found, streamed = names(HOSTILE[what])
    assert len(found) < 5
    assert (found[-1:] == ["error"]) == (streamed[-1:] == ["error"])


def read_all(path: Path) -> None:
    with open_archive(str(path), "source", None) as source:
        assert isinstance(source, StreamSource)
        with source.members() as members:
            list(members)


@pytest.mark.parametrize("kind", [b"L", b"x", b"g", b"K"])
@pytest.mark.parametrize("how", ["file", "stream"])
def test_headers_take_little_memory(how: str, kind: bytes, tmp_path: Path) -> None:
    """A few megabytes of gzip hold gigabytes of a name."""
    squeezed = zlib.compressobj(9, wbits=31)
    path = tmp_path / "a.oci"
    with path.open("wb") as made:
        made.write(squeezed.compress(entry("x", binary(3 * 2**30), kind)))
        if how == "file":
            made.seek(0)
            made.write(entry("x", binary(3 * 2**30), kind))
            made.truncate(4 * 2**30)
        else:
            for _ in range(8):
                made.write(squeezed.compress(bytes(8 * MIB)))
            made.write(squeezed.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match="claims 3221225472 bytes"):
        read_all(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("what", ["headers", "holes"])
def test_budgets_are_for_the_whole_archive(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_HEADERS", 4096 if what == "headers" else 2**20)
    monkeypatch.setattr(tar, "MOST_HOLES", 3 * MIB)
    one = {
        "headers": LONG + file("a", "x"),
        "holes": pax(**SPARSE, GNU__sparse__realsize=str(MIB)) + file("s", "0\n".ljust(512, "\0")),
    }[what]
    assert "error" not in names(whole(one * (1 if what == "headers" else 3)))[0]
    raw = whole(one * 4)
    with pytest.raises(ValueError, match=what):
        list(read_entries(_Whole(raw)))
    assert names(raw)[1][-1] == "error"


def test_a_stream_may_be_taken_in_part() -> None:
    """Data that nobody wants is passed over; what comes next is found all the same."""
    raw = whole(*(file(f"f{number}", NOISE.randbytes(number * 700)) for number in range(30)))
    with tarfile.open(fileobj=io.BytesIO(raw)) as oracle:
        wanted = [(member.name, member.size) for member in oracle]
    for taken in (0, 1, 5000):
        archive = StreamBuffer(iter([raw[at : at + 999] for at in range(0, len(raw), 999)]))
        found = []
        for made in read_entries(archive):
            found.append((made.name, made.size))
            for extent in made.extents:
                got = b"".join(archive.data(extent.data, min(taken, extent.length)))
                assert got == raw[extent.data : extent.data + min(taken, extent.length)]
        assert found == wanted
