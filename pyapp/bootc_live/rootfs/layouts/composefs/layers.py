"""Make layers again of the objects that they became, so that an upgrade fetches only what is new.

A recipe lists, in the order of a layer's tar, the objects in it and all other bytes. What is made of it counts as any
other copy of a layer: whoever uses it must verify its digest.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from bootc_live.base.errors import SourceError
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.rootfs.layouts.composefs.metadata import object_path
from bootc_live.rootfs.layouts.composefs.store import OBJECTS
from bootc_live.rootfs.tree.node import Node

LAYERS = "layers"
# The size of the layer, then records, all compressed by zlib: the length of other bytes and these, or an object.
_SIZE, _RECORD = struct.Struct("<Q"), struct.Struct("<BQ")
_OTHER, _OBJECT = 0, 1
_DIGEST = 32
_STEP = 2**20
_LEVEL = 1
# Smaller files are cheaper as bytes than as objects that have to be opened.
_LEAST = 4096


class StoredLayers:
    """The layers that a store can make again: a ``LayerCache``.

    ``objects`` are those in the layers that were used, by diffID, then offset and size in the layer.
    """

    def __init__(self, store: str) -> None:
        """Read the recipes of a store."""
        self.path = os.path.join(store, LAYERS)
        self.objects: dict[str, dict[tuple[int, int], str]] = {}
        self._store = store
        self._wrong = set[str]()

    def size(self, diff_id: str) -> int | None:
        """Return the size of a layer in bytes; None if there is no recipe."""
        try:
            with open(self._recipe(diff_id), "rb") as file:
                return int(_SIZE.unpack(zlib.decompressobj().decompress(file.read(_STEP), _SIZE.size))[0])
        except (OSError, zlib.error, struct.error):
            return None

    @contextmanager
    def open_layer(self, diff_id: str) -> Iterator[Iterator[bytes] | None]:
        """Open a layer; None if there is no recipe. Reading may raise SourceError."""
        if diff_id in self._wrong or self.size(diff_id) is None:
            yield None
            return
        with open(self._recipe(diff_id), "rb") as file:
            yield self._pieces(diff_id, _inflated(iter(lambda: file.read(_STEP), b"")))

    def discard(self, diff_id: str) -> None:
        """Remove a recipe that is wrong."""
        self._wrong.add(diff_id)
        self.objects.pop(diff_id, None)
        with suppress(OSError):
            os.unlink(self._recipe(diff_id))

    def keep(self, data: int, layers: Sequence[tuple[str, int, int]]) -> None:
        """Do nothing: a recipe needs the objects, which are there later."""

    def _recipe(self, diff_id: str) -> str:
        return os.path.join(self.path, diff_id.replace(":", "-"))

    def _pieces(self, diff_id: str, content: _Reader) -> Iterator[bytes]:
        offset, found = 0, self.objects.setdefault(diff_id, {})
        try:
            (size,) = _SIZE.unpack(content.take(_SIZE.size))
            while offset < size:
                kind, length = _RECORD.unpack(content.take(_RECORD.size))
                if kind == _OTHER:
                    yield from content.pieces(length)
                else:
                    digest = content.take(_DIGEST).hex()
                    found[offset, length] = digest
                    yield from _content(os.path.join(self._store, OBJECTS, object_path(digest)), length)
                offset += length
        except (OSError, zlib.error, struct.error, EOFError) as error:
            raise SourceError(f"it cannot be made of the objects on the disk: {error}", hint="fetch it") from error


class _Reader:
    """Reads what a generator yields."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        # A view: what is left of a chunk is not copied for each small piece.
        self._chunks, self._held = chunks, memoryview(b"")

    def pieces(self, length: int) -> Iterator[bytes]:
        """Yield so many bytes; raise EOFError."""
        while length:
            if not self._held:
                self._held = memoryview(next(self._chunks, b""))
                if not self._held:
                    raise EOFError("the recipe is too short")
            piece, self._held = self._held[:length], self._held[length:]
            length -= len(piece)
            yield bytes(piece)

    def take(self, length: int) -> bytes:
        """Return so many bytes; raise EOFError."""
        return b"".join(self.pieces(length))


def _inflated(chunks: Iterator[bytes]) -> _Reader:
    inflater = zlib.decompressobj()

    def read() -> Iterator[bytes]:
        for chunk in chunks:
            rest = chunk
            while rest:
                yield inflater.decompress(rest, _STEP)
                rest = inflater.unconsumed_tail

    return _Reader(piece for piece in read() if piece)


def _content(path: str, size: int) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size != size:
            raise OSError(f"{path} has another size")
        while piece := os.read(fd, _STEP):
            yield piece
    finally:
        os.close(fd)


def record_layers(store: str, image: VerifiedImage, contents: Mapping[int, str | bytes], nodes: Sequence[Node]) -> None:
    """Write the recipes of an image's layers that have none; raise OSError.

    ``contents`` are the objects of ``nodes``, by their identities, as ``store_root`` makes them.
    """
    os.makedirs(os.path.join(store, LAYERS), mode=0o700, exist_ok=True)
    found = sorted(
        (node.offset, node.size, content)
        for node in nodes
        if isinstance(content := contents.get(id(node)), str) and node.extents is None and node.size >= _LEAST
    )
    data = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for layer in dict.fromkeys(image.layers):
            path = os.path.join(store, LAYERS, layer.diff_id.replace(":", "-"))
            if not os.path.exists(path):
                _record(path, data, layer, found)
    finally:
        os.close(data)


def forget_layers(store: str, kept: Collection[str]) -> None:
    """Remove the recipes of all layers but those kept; raise OSError."""
    directory = os.path.join(store, LAYERS)
    names = {diff_id.replace(":", "-") for diff_id in kept}
    for name in set(os.listdir(directory) if os.path.isdir(directory) else ()) - names:
        os.unlink(os.path.join(directory, name))


def _record(path: str, data: int, layer: VerifiedLayer, found: Sequence[tuple[int, int, str]]) -> None:
    deflater = zlib.compressobj(_LEVEL)
    end = layer.offset + layer.size
    # A power cut may leave it shorter: what is made of it has another digest then.
    with open(f"{path}.new", "wb") as file:

        def other(start: int, stop: int) -> None:
            if start < stop:
                file.write(deflater.compress(_RECORD.pack(_OTHER, stop - start)))
            while start < stop:
                piece = os.pread(data, min(_STEP, stop - start), start)
                file.write(deflater.compress(piece))
                start += len(piece)

        file.write(deflater.compress(_SIZE.pack(layer.size)))
        done = layer.offset
        for offset, size, digest in found:
            # Of two names for the same data, the first counts.
            if done <= offset and offset + size <= end:
                other(done, offset)
                file.write(deflater.compress(_RECORD.pack(_OBJECT, size) + bytes.fromhex(digest)))
                done = offset + size
        other(done, end)
        file.write(deflater.flush())
    os.rename(f"{path}.new", path)
