"""Layers are inflated whatever their compression, and refused where they are damaged."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from bootc_live.base.errors import ImageError, RunError, SourceError
from bootc_live.system.inflate import gzip as by_gzip
from bootc_live.system.inflate import zstd as by_zstd
from bootc_live.system.inflate.streams import inflate
from tests.lib.linear import check_linear
from tests.lib.needs import needs
from tests.lib.threads import no_thread_left
from tests.unit.inflate_cases import GZIP, RANDOM, TEXT, ZSTD, Stream, cut, in_two_pieces, skippable, zstd, zstd_stream

Pack = Callable[[bytes], bytes]
STEPS = (1, 3, 4096, 1 << 20)
BIGGEST_PIECE = 4 * 1024 * 1024


@pytest.fixture
def _without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library's zlib, also where libisal is installed."""
    monkeypatch.setattr(by_gzip, "_library", lambda: None)


def inflated(data: bytes, step: int = 4096) -> bytes:
    return b"".join(inflate(cut(data, step)))


def few_steps(data: bytes) -> tuple[int, ...]:
    """Chunk sizes that are worth their time: single bytes only for short streams."""
    return STEPS if len(data) < 20_000 else STEPS[2:]


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize("stream", GZIP, ids=lambda stream: stream.name)
def test_gzip_by_zlib(stream: Stream) -> None:
    for step in few_steps(stream.data):
        if stream.plain is None:
            with pytest.raises(ImageError, match=r"^it is damaged: ") as caught:
                inflated(stream.data, step)
            assert caught.value.hint
        else:
            assert inflated(stream.data, step) == stream.plain


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize("flags", range(32))
def test_gzip_headers_in_two_pieces(flags: int) -> None:
    assert set(in_two_pieces(flags)) == {b"onetwo"}


@pytest.mark.parametrize("name", ZSTD)
def test_zstd(name: str) -> None:
    stream = zstd_stream(name)
    for step in few_steps(stream.data):
        if stream.plain is None:
            with pytest.raises(ImageError, match=r"^it is damaged: ") as caught:
                inflated(stream.data, step)
            assert caught.value.hint
        else:
            assert inflated(stream.data, step) == stream.plain


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("data", [b"", b"x", b"xyz", b"plain text, long enough", bytes(1024), b"\x1f", b"\x28\xb5\x2f"])
def test_plain(data: bytes, step: int) -> None:
    assert inflated(data, step) == data


def test_plain_pieces_are_passed_on_as_they_come() -> None:
    chunks = [b"abcd", b"", RANDOM, b"e"]
    assert list(inflate(iter(chunks))) == [b"abcd", RANDOM, b"e"]


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zstd, lambda data: skippable(3, b"") + zstd(data)],
    ids=["gzip", "zstd", "skippable"],
)
def test_first_chunks_may_be_tiny(pack: Pack, step: int) -> None:
    """What kind of stream it is shows in its first four bytes, however they arrive."""
    with_empty = (piece for chunk in cut(pack(b"tiny"), step) for piece in (chunk, b""))
    assert b"".join(inflate(filter(None, with_empty))) == b"tiny"


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, 1), zstd], ids=["gzip", "zstd"])
@pytest.mark.usefixtures("_without_isal")
def test_a_bomb_comes_in_bounded_pieces(pack: Pack) -> None:
    total = 0
    for piece in inflate(iter([pack(bytes(50 << 20))])):
        assert 0 < len(piece) <= BIGGEST_PIECE
        total += len(piece)
    assert total == 50 << 20


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize(
    "pack",
    [
        lambda data: gzip.compress(data) + gzip.compress(b"end"),
        lambda data: zstd(data) + skippable(0, b"x" * 200_000),
        bytes,
    ],
    ids=["gzip", "zstd", "plain"],
)
def test_input_is_read_to_its_end(pack: Pack) -> None:
    """Else its digest would not be checked."""
    source = cut(pack(TEXT), 1000)
    for _ in inflate(source):
        pass
    assert next(source, None) is None


def failing(data: bytes) -> Iterator[bytes]:
    """A transfer that breaks off."""
    yield from cut(data, 1000)
    raise SourceError("the transfer broke off", hint="try again")


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize("pack", [gzip.compress, zstd, bytes], ids=["gzip", "zstd", "plain"])
def test_an_error_of_the_source_comes_through(pack: Pack) -> None:
    """Even where the half stream alone would be an error of its own."""
    packed = pack(TEXT)
    with pytest.raises(SourceError, match="the transfer broke off"):
        list(inflate(failing(packed[: len(packed) // 2])))


@pytest.mark.usefixtures("_without_isal")
@pytest.mark.parametrize("pack", [gzip.compress, zstd, bytes], ids=["gzip", "zstd", "plain"])
def test_stopping_early_leaves_nothing_behind(pack: Pack) -> None:
    packed = pack(TEXT)
    descriptors = os.listdir("/proc/self/fd")
    endless = (packed for _ in range(10**9))
    with no_thread_left():
        pieces = inflate(endless)
        next(pieces)
        pieces.close()
    assert os.listdir("/proc/self/fd") == descriptors
    assert children() == []


def children() -> list[str]:
    """Processes that this one started and that are still there, dead or alive."""
    found = []
    for task in os.listdir("/proc/self/task"):
        # A thread that has been joined may take a moment to be gone, and has no children then.
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
            found += file.read().split()
    return found


def test_failures_leave_nothing_behind() -> None:
    descriptors = os.listdir("/proc/self/fd")
    with no_thread_left():
        with pytest.raises(ImageError):
            inflated(zstd(TEXT)[:-1])
        with pytest.raises(SourceError):
            list(inflate(failing(zstd(TEXT)[:500])))
    assert os.listdir("/proc/self/fd") == descriptors
    assert children() == []


def test_without_libzstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_zstd, "LIBRARY", "libzstd.so.none")
    with pytest.raises(RunError) as caught:
        inflated(zstd(b"x"))
    assert caught.value.message.startswith("zstd data cannot be decompressed without libzstd.so.none: ")
    assert "install it" in caught.value.hint


@pytest.mark.usefixtures("_without_isal")
def test_many_small_members_are_quick() -> None:
    """Time grows with the size, not with its square."""
    member = gzip.compress(b"x" * 100, 1)
    # In one piece: what is left of it must not be copied for each member.
    check_linear(lambda count: inflated(member * count, len(member) * count), 20_000)
    assert inflated(member * 1000, 1 << 20) == b"x" * 100_000


@needs("gzip")
@pytest.mark.parametrize("stream", GZIP, ids=lambda stream: stream.name)
def test_the_samples_are_what_they_claim(stream: Stream) -> None:
    """gzip(1) gives the same; it warns of what stands behind (status 2) and fails at damage (status 1)."""
    done = subprocess.run(["gzip", "-d", "-c"], input=stream.data, capture_output=True, check=False)
    if stream.plain is None:
        assert done.returncode == 1
    else:
        assert done.stdout == stream.plain
        assert done.returncode in (0, 2)
