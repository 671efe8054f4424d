"""Images of any size for benchmarks, made of what compresses like programs do; igzip packs them quickly."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.registry import Registry
from tests.lib.small_image import HERE
from tests.lib.tar_writer import Header, directory, end, file, padded

MIB: Final = 2**20
PIECE: Final = 8 * MIB
_FILES_A_DIRECTORY: Final = 200


def stuff(size: int) -> bytes:
    """Bytes that gzip makes about half of, the same on every call."""
    source = random.Random(4)
    half = size // 2
    words = [source.randbytes(24) for _ in range(512)]
    repeated = b"".join(source.choices(words, k=half // 24 + 1))[:half]
    mixed = zip(_cut(source.randbytes(size - half)), _cut(repeated), strict=True)
    return b"".join(part for pair in mixed for part in pair)


def _cut(data: bytes) -> list[bytes]:
    return [data[begin : begin + 4096] for begin in range(0, len(data), 4096)]


def big_files(size: int, name: str = "data") -> Iterator[bytes]:
    """Members of `size` bytes of data, in pieces."""
    content = stuff(PIECE)
    yield directory(f"{name}/")
    for number in range(size // PIECE):
        yield Header(f"{name}/{number}".encode(), size=PIECE).encode()
        yield padded(content)


def small_files(count: int, name: str = "many") -> Iterator[bytes]:
    """So many members of a few hundred bytes, in directories of a few hundred."""
    source = random.Random(5)
    yield directory(f"{name}/")
    for number in range(count):
        place = f"{name}/{number // _FILES_A_DIRECTORY}"
        if number % _FILES_A_DIRECTORY == 0:
            yield directory(f"{place}/")
        yield file(f"{place}/file-{number}", source.randbytes(source.randrange(900)))


def base() -> Iterator[bytes]:
    """Members of what a root needs to be one."""
    yield directory("./")
    for name in ("etc/", "var/", "usr/", "sbin/"):
        yield directory(name)
    yield file("sbin/init", "#!/bin/sh\n", mode=0o755)


@contextmanager
def pushed(where: Registry, scratch: Path, name: str, layers: Iterable[Iterable[bytes]]) -> Iterator[str]:
    """An image of `layers`, base first, each given as its members; what the block gets is its source.

    With the block, all that the registry keeps is removed.
    """
    with TemporaryDirectory(dir=scratch) as place:
        made = [_layer(Path(place) / f"layer-{number}.gz", members) for number, members in enumerate(layers)]
        layout = write_layout(Path(place) / "layout", Image(made, architecture=HERE))
        for packed in made:
            assert isinstance(packed.blob, Path)
            packed.blob.unlink()
        where.push(f"oci:{layout}:latest", f"{name}:1")
    try:
        yield where.source(f"{name}:1")
    finally:
        for blob in where.storage.glob("docker/registry/v2/blobs/*/*/*/data"):
            blob.unlink()


def _layer(path: Path, members: Iterable[bytes]) -> Layer:
    digest = hashlib.sha256()
    with path.open("wb") as out:
        packer = subprocess.Popen(["igzip", "-1", "-c"], stdin=subprocess.PIPE, stdout=out)
        assert packer.stdin is not None
        with packer.stdin as stream:
            for part in (*members, end()):
                digest.update(part)
                stream.write(part)
        assert packer.wait() == 0
    return Layer(blob=path, diff_id=f"sha256:{digest.hexdigest()}")
