"""Members of an initramfs are found wherever the kernel finds them: in any of its archives, plain and compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

import pytest

from bootc_live.formats.cpio import header, padding, trailer
from bootc_live.rootfs.boot_files.initramfs import has_module, holds, look_for, unpacked_size
from bootc_live.system.inflate import lz4, zstd
from tests.lib.compressing import program

NOISE = os.urandom(300_000)


def archive(name: str, content: bytes = NOISE) -> bytes:
    """An archive of one file."""
    return header(name, 0o100644, len(content), 1) + content + padding(len(content)) + trailer()


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": program("zstd", "-q", "-c"),
    "zstd without checksum": program("zstd", "-q", "-c", "--no-check"),
    "zstd of a known size": lambda data: program("zstd", "-q", "-c", f"--stream-size={len(data)}")(data),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "lz4": program("lz4", "-q", "-l", "-c"),
}


@cache
def packed(kind: str, name: str, content: bytes = NOISE) -> bytes:
    """An archive of one file, compressed and padded to where another may begin."""
    data = COMPRESSED[kind](archive(name, content))
    return data + padding(len(data))


def found(data: bytes, name: str, step: int = 100_003) -> bool | None:
    """Whether it is there, read from chunks of some bytes."""
    return holds((data[at : at + step] for at in range(0, len(data), step)), name)


@pytest.mark.parametrize("kind", COMPRESSED)
def test_one_archive(kind: str) -> None:
    data = packed(kind, "usr/lib/x")
    assert found(data, "usr/lib/x") is True
    assert found(data, "usr/lib/y") is False


# Where the first one ends is what matters, so that a second one of each kind is for the long form.
PAIRS = [
    pytest.param(first, second, marks=[] if second in ("plain", "zstd") else pytest.mark.long)
    for first in COMPRESSED
    for second in COMPRESSED
]


@cache
def compressed(kind: str, name: str) -> bytes:
    """An archive of one file, compressed."""
    return COMPRESSED[kind](archive(name))


@pytest.mark.parametrize("zeros", [0, 400])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_two_archives(first: str, second: str, zeros: int) -> None:
    """Zeros between them, as loaders and UKIs put them, or none."""
    if first == "lz4" and not zeros:
        # It has no end of its own: what follows without zeros is more of it, for the kernel, too.
        second = "lz4"
    data = compressed(first, "a")
    data += bytes(zeros and zeros - len(data) % 4) or padding(len(data)) * (first != "lz4")
    data += packed(second, "b", b"y" * 300_000)
    assert [found(data, name) for name in "abc"] == [True, True, False]


def test_microcode_in_front() -> None:
    data = archive("kernel/x86/microcode/GenuineIntel.bin") + bytes(1024) + packed("zstd", "usr/lib/x")
    assert found(data, "usr/lib/x") is True
    assert found(data, "kernel/x86/microcode/GenuineIntel.bin") is True


@pytest.mark.parametrize("written", ["usr/lib/x", "./usr/lib/x", "/usr/lib/x"])
@pytest.mark.parametrize("asked", ["usr/lib/x", "/usr/lib/x"])
def test_ways_to_write_a_path(written: str, asked: str) -> None:
    assert found(packed("gzip", written), asked) is True


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("usr/lib/modules/6.12/kernel/fs/xfs/xfs.ko", True),
        ("lib/modules/6.12/kernel/fs/xfs/xfs.ko.xz", True),
        ("./usr/lib/modules/6.12/kernel/fs/xfs/xfs.ko.zst", True),
        ("usr/lib/modules/6.1/kernel/fs/xfs/xfs.ko", False),
        ("usr/lib/modules/6.12/kernel/fs/xfs/xfs.ko.debug", False),
    ],
)
def test_modules(written: str, there: bool) -> None:
    """Of one kernel, in whatever way they are compressed."""
    data = packed("gzip", written, b"a module")
    assert has_module(iter([data]), "6.12", "kernel/fs/xfs/xfs.ko") is there


def test_directories_count() -> None:
    assert found(header("usr", 0o40755, 0, 1) + trailer(), "usr/") is True


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd", "xz"])
def test_reading_ends_where_it_is_found(kind: str) -> None:
    """But for what lies in pipes."""
    data = COMPRESSED[kind](archive("a") + archive("b", os.urandom(10_000_000 if kind == "zstd" else 2_000_000)))
    taken = []

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(data), 100_000):
            taken.append(at)
            yield data[at : at + 100_000]

    assert holds(chunks(), "a") is True
    assert len(taken) < len(data) // 200_000


@pytest.mark.parametrize("kind", COMPRESSED)
def test_damage_cannot_be_told_from_absence(kind: str) -> None:
    data = packed(kind, "a")
    assert found(data[:200_000], "b") is None


@pytest.mark.parametrize("zeros", range(5))
@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
def test_only_a_word_of_zeros_ends_lz4(kind: str, zeros: int) -> None:
    """The kernel takes what follows it for the size of one more block, and unpacks no further."""
    data = compressed("lz4", "a")
    data += bytes(-len(data) % 4 + 4) if zeros == 4 else bytes(zeros)
    if len(data) % 4:
        # Where no loader would put an archive.
        return
    data += packed(kind, "b", b"y" * 300_000)
    assert found(data, "a") is True
    assert (found(data, "b") is True) is (zeros == 4)


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd", "lz4"])
def test_unpacked_size(kind: str) -> None:
    """Of all archives, in whole pages, as far as they can be read."""
    assert unpacked_size(iter([packed(kind, "a") + bytes(4) + packed("gzip", "b", b"x")])) == 303_104 + 4096
    assert unpacked_size(iter([packed("plain", "a") + b"junk"])) == 303_104
    assert unpacked_size(iter([])) == 0


def test_several_members_are_looked_for_at_once() -> None:
    data = packed("zstd", "usr/lib/a", b"one\ntwo\n") + packed("gzip", "./b", NOISE)
    contents = look_for(iter([data]), "usr/lib/a", "/b")
    assert contents.found["usr/lib/a"] == b"one\ntwo\n"
    assert NOISE.startswith(contents.found["b"])
    assert look_for(iter([data]), "b", "c").has("c") is False
    assert look_for(iter([data[:-100_000]]), "b", "c").has("c") is None


@pytest.mark.parametrize("behind", [b"junk", b"#BOOTCONFIG\n", b"\x89LZO\0\r\n\x1a\n"])
def test_what_nobody_knows(behind: bytes) -> None:
    assert found(packed("zstd", "a") + behind, "a") is True
    assert found(packed("zstd", "a") + behind, "b") is None


def test_the_kernel_gives_up_on_junk_inside() -> None:
    assert found(gzip.compress(archive("a") + b"junk") + archive("b"), "b") is False


@pytest.mark.parametrize(("kind", "module"), [("zstd", zstd), ("lz4", lz4)])
def test_a_library_that_is_missing(kind: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive("a") + packed(kind, "b")
    monkeypatch.setattr(module, "LIBRARY", "lib.so.none")
    assert [found(data, name) for name in "abc"] == [True, None, None]


def test_nothing_at_all() -> None:
    assert found(b"", "a") is False
    assert found(bytes(1024), "a") is False
