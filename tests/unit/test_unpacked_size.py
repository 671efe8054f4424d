"""How large a layer is unpacked, as a few of its bytes tell it: true ones, worn ones and lies."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import tempfile
from collections.abc import Callable

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.size.unpacked import Basis, annotated_size, frame_size, measured, trailer_sizes
from tests.lib.needs import need
from tests.lib.oci_writer import compress

GIB = 2**30
NOISE = random.Random(3)
# Packs to about half, as real layers do.
TAR = b"".join(NOISE.randbytes(256) + bytes(256) for _ in range(400))
ESTARGZ = "io.containers.estargz.uncompressed-size"
UMOCI = "ci.umo.uncompressed_blob_size"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00meta"


def a_layer(size: int, media_type: str = GZIP, annotations: dict[str, str] | None = None) -> Descriptor:
    return Descriptor(media_type, "sha256:" + "1" * 64, size, annotations=annotations or {})


@pytest.mark.parametrize(
    ("annotations", "size"),
    [
        ({ESTARGZ: "2000"}, 2000),
        ({UMOCI: "2000"}, 2000),
        ({UMOCI: "1000"}, 1000),
        ({ESTARGZ: "nonsense", UMOCI: "3000"}, 3000),
        # Less than what is to be fetched, no number, no number of bytes.
        ({ESTARGZ: "999"}, None),
        ({ESTARGZ: "-2000"}, None),
        ({ESTARGZ: "2e3"}, None),
        ({ESTARGZ: ""}, None),
        ({ESTARGZ: "\u0662\u0660\u0660\u0660"}, None),
        ({ESTARGZ: "9" * 5000}, None),
        ({"org.example.uncompressed": "2000"}, None),
        ({}, None),
    ],
)
def test_annotations(annotations: dict[str, str], size: int | None) -> None:
    assert annotated_size(a_layer(1000, annotations=annotations)) == size


@pytest.mark.parametrize(
    ("trailer", "size", "sizes"),
    [
        (2500, 1000, [2500]),
        (1000, 1000, [1000]),
        (20_000, 1000, [20_000]),
        # An empty last member, another small one, a bomb.
        (0, 1000, []),
        (999, 1000, []),
        (20_001, 1000, []),
        # Past 4 GiB the field has begun anew: what packs as usual comes first.
        (100, 2 * GIB, [4 * GIB + 100, 8 * GIB + 100, *(n * 4 * GIB + 100 for n in range(3, 10))]),
        (GIB, 2 * GIB, [5 * GIB, 9 * GIB, *(n * 4 * GIB + GIB for n in range(3, 10))]),
        (3 * GIB, GIB, [3 * GIB, 7 * GIB, 11 * GIB, 15 * GIB, 19 * GIB]),
    ],
)
def test_trailers(trailer: int, size: int, sizes: list[int]) -> None:
    assert trailer_sizes(struct.pack("<I", trailer), size) == sizes


@pytest.mark.parametrize("trailer", [b"", b"\x10\x27\x00", b"\x10\x27\x00\x00\x00"])
def test_a_trailer_of_another_length(trailer: bytes) -> None:
    assert trailer_sizes(trailer, 5000) == []


def frame(content: int, flag: int, *, single: bool = True, dictionary: int = 0) -> bytes:
    """The header of a zstd frame by hand (RFC 8878, 3.1.1.1)."""
    width = (1 if single else 0, 2, 4, 8)[flag]
    value = content - 256 if width == 2 else content
    head = b"\x28\xb5\x2f\xfd" + bytes([flag << 6 | single << 5 | {0: 0, 1: 1, 2: 2, 4: 3}[dictionary]])
    head += (b"" if single else b"\x58") + bytes(dictionary)
    return (head + (value.to_bytes(width, "little") if width else b"")).ljust(18, b"\xee")


@pytest.mark.parametrize(
    ("head", "size", "content"),
    [
        (frame(200, 0), 100, 200),
        (frame(300, 1), 100, 300),
        (frame(70_000, 2), 60_000, 70_000),
        (frame(70_000, 2, single=False), 60_000, 70_000),
        (frame(5 * GIB, 3), 2 * GIB, 5 * GIB),
        (frame(70_000, 2, dictionary=4), 60_000, 70_000),
        (frame(70_000, 3, single=False, dictionary=1), 60_000, 70_000),
        # It states none; it is the first of several; it cannot be true.
        (frame(0, 0, single=False), 100, None),
        (frame(70_000, 2), 70_001, None),
        (frame(70_000, 2), 3499, None),
        (frame(70_000, 2)[:8], 60_000, None),
        (b"\x28\xb5\x2f\xfd", 60_000, None),
        (SKIPPABLE.ljust(18), 100, None),
        (TAR[:18], 100, None),
    ],
)
def test_frames(head: bytes, size: int, content: int | None) -> None:
    assert frame_size(head, size) == content


def two_members(tar: bytes) -> bytes:
    """As eStargz has it: members of their own, and an empty last one."""
    return gzip.compress(tar[:1000]) + gzip.compress(tar[1000:]) + gzip.compress(b"")


def file_zstd(content: bytes) -> bytes:
    """As zstd(1) packs a file, whose size it knows; that of a pipe it does not."""
    need("zstd")
    with tempfile.NamedTemporaryFile() as whole:
        whole.write(content)
        whole.flush()
        return subprocess.run(["zstd", "-q", "-c", whole.name], stdout=subprocess.PIPE, check=True).stdout


ROWS: list[tuple[str, bytes | Callable[[], bytes], str, list[int] | None, Basis, int]] = [
    ("gzip", compress(TAR, "gzip"), GZIP, [len(TAR)], Basis.TRAILER, 1),
    ("docker's type", compress(TAR, "gzip"), DOCKER_GZIP, [len(TAR)], Basis.TRAILER, 1),
    ("zstd", lambda: file_zstd(TAR), ZSTD, [len(TAR)], Basis.FRAME, 1),
    ("plain", TAR, PLAIN, [len(TAR)], Basis.PLAIN, 1),
    ("no type", compress(TAR, "gzip"), "", [len(TAR)], Basis.TRAILER, 2),
    ("gzip called plain", compress(TAR, "gzip"), PLAIN, [len(TAR)], Basis.TRAILER, 2),
    ("plain called gzip", TAR + bytes(1024), GZIP, [len(TAR) + 1024], Basis.PLAIN, 2),
    ("gzip of several members", two_members(TAR), GZIP, None, Basis.GUESS, 2),
    ("zlib's bytes in between", compress(TAR, "gzip") + bytes(16), GZIP, None, Basis.GUESS, 2),
    ("zstd out of a pipe", lambda: compress(TAR, "zstd"), ZSTD, None, Basis.GUESS, 1),
    ("zstd:chunked", lambda: SKIPPABLE + compress(TAR, "zstd"), ZSTD, None, Basis.GUESS, 1),
    ("next to nothing", b"12345678901234567", GZIP, [17], Basis.PLAIN, 0),
]


@pytest.mark.parametrize(
    ("made", "kind", "sizes", "basis", "looks"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS]
)
def test_looks(made: bytes | Callable[[], bytes], kind: str, sizes: list[int] | None, basis: Basis, looks: int) -> None:
    blob = made if isinstance(made, bytes) else made()
    asked = []

    def peek(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        assert length <= 18
        return blob[offset : offset + length]

    found = measured(a_layer(len(blob), kind), peek)
    assert found == (None if sizes is None else (sizes, basis))
    assert len(asked) == looks


def nothing(_offset: int, _length: int) -> bytes:
    return b""


def refused(_offset: int, _length: int) -> bytes:
    raise SourceError("no", hint="no")


@pytest.mark.parametrize("peek", [nothing, refused])
@pytest.mark.parametrize("kind", [GZIP, PLAIN])
def test_failures_are_passed_on(kind: str, peek: Callable[[int, int], bytes]) -> None:
    with pytest.raises(SourceError):
        measured(a_layer(5000, kind), peek)
