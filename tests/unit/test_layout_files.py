"""What holds an archive's files: tar members read in place, directories, and readers behind them."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, SourceError
from bootc_live.source.archive.files import DirectoryFiles, Files, MemoryFiles, TarFiles, plain_name
from bootc_live.source.archive.labels import choose
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.archive.reader import FileReader, HeaderBuffer
from bootc_live.source.interface import StreamSource
from bootc_live.system.files import punch_hole
from tests.lib.acquiring import acquired, allocated, contents, fetch_opened
from tests.lib.archive_members import Link, Members, oci_members, tar_of
from tests.lib.archive_servers import Stored, archive_server
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Image, Layer, sha256, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
NOISE = random.Random(7)
TARS = [layer(file("one", NOISE.randbytes(700))), layer(file("two", NOISE.randbytes(90_000)))]
IMAGE = Image([Layer(tar) for tar in TARS], architecture=HERE)


@dataclass
class Counted:
    """Bytes in memory as a reader that counts questions."""

    content: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def size(self) -> int:
        """How many."""
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        """See `Reader`."""
        self.reads.append((offset, length))
        return self.content[offset : offset + length]

    def peek(self, offset: int, length: int) -> bytes:
        """See `Reader`."""
        return self.read(offset, length)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """See `Reader`."""
        yield iter([self.content[offset : offset + length]])

    def release(self, offset: int, length: int) -> None:
        """See `Reader`."""

    def interrupt(self) -> None:
        """See `Reader`."""
        self.interrupted = True


def read(files: Files, name: str) -> bytes:
    with files.open(name) as chunks:
        return b"".join(chunks)


def test_window_reads_what_there_is() -> None:
    content = NOISE.randbytes(300_000)
    reader = Counted(content)
    window = HeaderBuffer(reader)
    assert len(window) == len(content)
    for _ in range(500):
        start = NOISE.randrange(len(content) + 10_000)
        stop = start + NOISE.choice([0, 1, 512, 70_000, len(content)])
        assert window[start:stop] == content[start:stop]
    assert all(length > 0 for _, length in reader.reads)


def test_small_members_need_few_questions() -> None:
    reader = Counted(tar_of({f"blobs/sha256/{number:064}": NOISE.randbytes(1500) for number in range(200)}))
    files = TarFiles(reader, "source")
    assert len(reader.reads) <= reader.size // 65_536 + 2
    assert files.size(f"blobs/sha256/{199:064}") == 1500


def test_large_members_are_passed_over() -> None:
    reader = Counted(tar_of({f"blobs/{number}": bytes(3 * MIB) for number in range(5)}))
    TarFiles(reader, "source")
    assert len(reader.reads) <= 12
    assert sum(length for _, length in reader.reads) < MIB


def test_requests_for_an_archive_of_many_layers(tmp_path: Path) -> None:
    tars = [layer(file(f"file-{number}", str(number))) for number in range(200)]
    content = tar_of(oci_members(Image([Layer(tar) for tar in tars], architecture=HERE)))
    with archive_server(Stored(content)) as served:
        assert contents(acquired(tmp_path / "data", served.url())) == tars
    # One a layer, a few for manifest and config, and those for the headers.
    assert len(served.asked) <= 200 + len(content) // 65_536 + 8


def test_members_by_other_names() -> None:
    members: Members = {
        "a/layer.tar": b"content",
        "b/layer.tar": Link("../a/layer.tar"),
        "c/layer.tar": Link("a/layer.tar", hard=True),
        "before": Link("later"),
        "later": b"came later",
        "dangling": Link("nowhere"),
        "outside": Link("../../etc/passwd"),
        "absolute": Link("/etc/passwd"),
        "self": Link("self"),
    }
    for prefix in ("", "./"):
        files = TarFiles(Counted(tar_of(members, prefix)), "source")
        assert read(files, "b/layer.tar") == read(files, "c/layer.tar") == read(files, "a/layer.tar") == b"content"
        assert read(files, "before") == b"came later"
        for name in ("dangling", "outside", "absolute", "self", "nowhere", "a"):
            assert files.size(name) is None


def test_plain_names() -> None:
    assert [plain_name(name) for name in ("./a", "a", ".", "./", "../a", ".a")] == ["a", "a", ".", "", "../a", ".a"]


def test_files_in_memory() -> None:
    files = MemoryFiles({"a": b"content", "empty": b""})
    assert (files.size("a"), files.size("empty"), files.size("b")) == (7, 0, None)
    assert (read(files, "a"), read(files, "empty")) == (b"content", b"")
    files.interrupt()


def test_interruption_is_passed_on() -> None:
    reader = Counted(tar_of({"a": b""}))
    TarFiles(reader, "source").interrupt()
    assert reader.interrupted


def test_files_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "link").symlink_to("sub/a")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    files = DirectoryFiles(str(tmp_path), "source")
    assert files.size("sub/a") == files.size("link") == len(read(files, "link")) == 3_000_000
    assert [files.size(name) for name in ("nowhere", "sub", "dangling", "fifo")] == [None] * 4
    files.interrupt()


def test_layout_of_links(tmp_path: Path) -> None:
    """As tools keep them that share blobs between layouts."""
    layout = write_layout(tmp_path / "layout", IMAGE)
    (layout / "blobs").rename(tmp_path / "shared")
    (layout / "blobs").symlink_to("../shared")
    for path in (tmp_path / "shared/sha256").iterdir():
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    (tmp_path / "current").symlink_to("layout")
    assert contents(acquired(tmp_path / "data", str(tmp_path / "current"))) == TARS


@contextmanager
def soon() -> Iterator[None]:
    """Fail a block that waits for ever."""

    def late(*_: object) -> None:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["fifo", "socket", "null"])
def test_archive_that_is_no_file(kind: str, tmp_path: Path) -> None:
    """Nobody is there to write into a pipe at boot."""
    path = tmp_path / "root.oci"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            listening.bind(str(path))
        else:
            path.symlink_to("/dev/null")
        with soon(), pytest.raises(SourceError) as caught:
            acquired(tmp_path / "data", str(path))
    assert repr(str(path)) in caught.value.message


@pytest.mark.parametrize("which", ["index.json", "layer"])
def test_layout_that_cannot_be_read(which: str, tmp_path: Path) -> None:
    """A medium that has gone bad is a source that cannot be used; the next one may be."""
    bad = write_layout(tmp_path / "bad", IMAGE)
    good = write_archive(tmp_path / "good.oci", IMAGE)
    largest = max((bad / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    path = bad / "index.json" if which == "index.json" else largest
    path.unlink()
    # A regular file that gives nothing but EIO at its beginning: no process has memory there.
    path.symlink_to("/proc/self/mem")
    with pytest.raises(BootcLiveError, match="Input/output error") as caught:
        acquired(tmp_path / "data", str(bad))
    assert repr(str(bad)) in caught.value.message
    assert contents(acquired(tmp_path / "data", str(bad), str(good))) == TARS


@pytest.mark.parametrize("spared", [0, 1, 4])
def test_archive_that_cannot_be_read(spared: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = write_archive(tmp_path / "bad.oci", IMAGE)
    good = write_layout(tmp_path / "good", IMAGE)
    left = [spared]
    pread = os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}") == str(bad):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, length, offset)

    monkeypatch.setattr("bootc_live.source.archive.reader.os.pread", failing)
    with pytest.raises(BootcLiveError, match="Input/output error") as caught:
        acquired(tmp_path / "data", str(bad))
    assert repr(str(bad)) in caught.value.message
    left[0] = spared
    image = acquired(tmp_path / "data", str(bad), str(good))
    monkeypatch.undo()
    assert contents(image) == TARS


def test_what_has_been_read_can_be_given_back(tmp_path: Path) -> None:
    """Of a file that is ours alone: it shrinks while its contents grow elsewhere."""
    tars = [layer(file(name, NOISE.randbytes(2 * MIB))) for name in "ab"]
    for archive in (
        tar_of(oci_members(Image([Layer(tar, "none") for tar in tars], architecture=HERE))),
        tar_of(docker_members("skopeo", Saved([*tars, tars[0]]))),
        tar_of(docker_members("save-hard", Saved([*tars, tars[0]]))),
    ):
        path = tmp_path / "a"
        path.write_bytes(archive)
        before = allocated(path)
        # Nothing is copied once the last one has been.
        for consume, left in ((False, before), (True, before - 2 * MIB + 64 * 1024)):
            with open_archive(str(path), "source", None, consume=consume) as source:
                found = contents(fetch_opened(source, tmp_path / "data"))
            assert found[:2] == tars
            assert allocated(path) <= left
            (tmp_path / "data").unlink()


def test_punching_takes_whole_pages_inside(tmp_path: Path) -> None:
    path = tmp_path / "f"
    content = NOISE.randbytes(40_000)
    for offset, length in ((0, 40_000), (1, 39_999), (4096, 8192), (5000, 3000), (36_000, 99_999), (0, 0), (50_000, 9)):
        path.write_bytes(content)
        with path.open("r+b") as opened:
            punch_hole(opened.fileno(), offset, length)
        now = path.read_bytes()
        assert len(now) == len(content)
        begin, end = -(-offset // 4096) * 4096, min(offset + length, 40_000) // 4096 * 4096
        kept = [place for place in range(0, 40_000, 4096) if not begin <= place < end]
        assert all(now[place : place + 4096] == content[place : place + 4096] for place in kept)
        assert not any(now[begin:end])


def test_the_reader_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    with path.open("rb") as opened:
        reader = FileReader(opened.fileno(), "source")
        assert (reader.size, reader.read(3, 4), reader.read(8, 4), reader.read(20, 4)) == (10, b"3456", b"89", b"")
        with reader.stream(2, 5) as chunks:
            assert b"".join(chunks) == b"23456"
        with reader.stream(8, 5) as chunks, pytest.raises(SourceError, match="'source' is truncated"):
            list(chunks)
        reader.release(0, 10)
        reader.interrupt()
    assert path.read_bytes() == b"0123456789"


@pytest.mark.parametrize(
    ("names", "label", "chosen"),
    [
        ([["a:latest", "a:v1"], ["b:v2"]], None, [0]),
        ([["a:latest", "a:v1"], ["b:v2"]], "v1", [0]),
        ([["a:latest", "a:v1"], ["b:v2"]], "b:v2", [1]),
        ([["b:v2"]], None, [0]),
        ([[]], None, [0]),
        ([["x"], ["x"]], "x", [0, 1]),
        ([["x"], ["x"]], None, [0, 1]),
        ([[], []], None, [0, 1]),
        ([["a:5000/x:v1"]], "v1", [0]),
        ([["v1"], ["a:v1"]], "v1", [0]),
    ],
)
def test_labels(names: list[list[str]], label: str | None, chosen: list[int]) -> None:
    entries = list(enumerate(names))
    assert choose("source", entries, lambda entry: set(entry[1]), label) == [entries[number] for number in chosen]


@pytest.mark.parametrize("label", ["x:7", "7", "none", None])
@pytest.mark.parametrize("names", [[40_000], [40_000, 40_000], [1] * 20_000], ids=str)
def test_names_are_looked_at_a_few_times(names: list[int], label: str | None) -> None:
    """However many an image has; with these, what goes through all of them for each of them takes minutes."""
    looks = 0

    def named(entry: int) -> set[str]:
        nonlocal looks
        looks += names[entry]
        return {f"x:{number}" for number in range(names[entry])}

    with suppress(SourceError):
        choose("source", range(len(names)), named, label)
    assert looks <= 8 * sum(names)


def test_kinds_of_archives(tmp_path: Path) -> None:
    """Compressed ones have to be read from the front; the others need not be."""
    oci, docker = tar_of(oci_members(IMAGE)), tar_of(docker_members("save", Saved(TARS)))
    path = tmp_path / "a"
    for content, stream in ((oci, False), (docker, True), (gzip.compress(oci), True)):
        path.write_bytes(content)
        with open_archive(str(path), "source", None) as source:
            assert isinstance(source, StreamSource) == stream
            assert (source.source_text, source.insecure) == ("source", False)


def test_docker_archives_name_what_they_miss_before_anything_is_read(tmp_path: Path) -> None:
    members = docker_members("skopeo", Saved(TARS))
    gone = f"{sha256(TARS[1]).partition(':')[2]}.tar"
    del members[gone]
    (tmp_path / "a").write_bytes(tar_of(members))
    with pytest.raises(SourceError, match=f"does not contain '{gone}', which its manifest.json names"):
        acquired(tmp_path / "data", str(tmp_path / "a"))


def test_members_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", IMAGE)
    with tarfile.open(path, "a") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("index.json")
            info.type = kind
            tar.addfile(info)
    assert contents(acquired(tmp_path / "data", str(path))) == TARS
