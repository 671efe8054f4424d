"""Keep recipes of layers, so that an upgrade fetches only what is new.

A recipe lists, in the order of a layer's tar, the objects in it and all other bytes. It is an object itself, which the
metadata image of each root with that layer lists as a recipe. So the digest on the kernel command line covers the
recipes of the running root: what they say of a layer is true, and the layer is put in its place without the contents of
its objects, which stay where they are. Any other recipe is a claim: what is made of it counts as any other copy of a
layer, and whoever uses it must verify its digest. No root lists such a recipe: it may cut a layer in other parts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
from bisect import bisect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from bootc_live.base.errors import SourceError
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.rootfs.layouts.composefs.metadata import NOTHING_LISTED, Listed, object_path
from bootc_live.rootfs.layouts.composefs.store import OBJECTS, StoreWriter, content_digest
from bootc_live.rootfs.tree.data import fill
from bootc_live.rootfs.tree.node import Node
from bootc_live.source.interface import KeptContent, PlacedLayer
from bootc_live.system import fsverity
from bootc_live.system.files import space_for, write_all, write_at

# Links to recipes, by diffID.
LAYERS = "layers"
# This head, the diffID, then records: the length of other bytes and these, or an object. Compressed, they would depend
# on the version of a library, and so would the digest of a root.
_HEAD, _RECORD = struct.Struct("<8sHQ"), struct.Struct("<BQ")
_MAGIC = b"bl-layer"
_OTHER, _OBJECT = 0, 1
_DIGEST = 32
_NAME = re.compile(f"[0-9a-f]{{{2 * _DIGEST}}}")
_STEP = 2**20
# Smaller files are cheaper as bytes than as objects that have to be opened.
_LEAST = 4096


class StoredLayers:
    """The layers that a store has: a ``LayerCache``. ``placed`` are recipes of those that were placed, by diffID.

    ``used`` are the objects of the running root.
    """

    def __init__(self, store: str, running: Listed = NOTHING_LISTED) -> None:
        """Use the recipes of a store; those of the ``running`` root are right, as its digest is known to be."""
        self.path = os.path.join(store, LAYERS)
        self.placed: dict[str, str] = {}
        self.used = running.objects
        self._store, self._trusted = store, running.recipes
        self._wrong = set[str]()

    def size(self, diff_id: str) -> int | None:
        """Return the size of a layer in bytes; None if there is no recipe."""
        with suppress(OSError, ValueError), self._opened(self._recipe(diff_id)) as fd:
            return _size(_content_of(fd), diff_id)
        return None

    def is_known(self, diff_id: str) -> bool:
        """Return whether a layer needs neither space nor verifying, as far as its recipe is right."""
        with suppress(OSError):
            return self._recipe(diff_id) in self._trusted
        return False

    def place(self, diff_id: str, data: int, offset: int, most: int) -> PlacedLayer | None:
        """Write a layer of at most so many bytes to its place in the data file if its recipe is trusted, else None.

        Its objects are left out. Raise OutOfMemoryError.
        """
        if not self.is_known(diff_id):
            return None
        left_out: dict[tuple[int, int], KeptContent] = {}
        with suppress(OSError, ValueError), self._opened(recipe := self._recipe(diff_id)) as fd:
            protected = not fsverity.obstacle(self._store)
            if (fsverity.measure(fd) if protected else content_digest(fd, os.fstat(fd).st_size)) != recipe:
                raise ValueError("its recipe has changed")
            content = _content_of(fd)
            size = _size(content, diff_id)
            if size > most:
                raise ValueError("it does not fit")
            end = offset
            with space_for(data):
                for start, length, digest in _records(content, size):
                    if digest is None:
                        end = offset + start
                        for piece in content.pieces(length):
                            end = write_at(data, end, piece)
                    else:
                        self._check(digest, length, protected=protected)
                        left_out[offset + start, length] = KeptContent(_path(self._store, digest), digest)
                if end < offset + size:
                    # The data file must be as long as if the last content were there.
                    write_at(data, offset + size - 1, b"\0")
            self.placed[diff_id] = recipe
            return PlacedLayer(size, left_out)
        return None

    def _check(self, digest: str, size: int, *, protected: bool) -> None:
        """Raise OSError if an object has another size, or another digest for the kernel if fs-verity is there."""
        if protected:
            with self._opened(digest) as fd:
                # It covers the size.
                right = fsverity.measure(fd) == digest
        else:
            found = os.lstat(_path(self._store, digest))
            right = stat.S_ISREG(found.st_mode) and found.st_size == size
        if not right:
            raise OSError(f"the object {digest} is another file")

    @contextmanager
    def open_layer(self, diff_id: str) -> Iterator[Iterator[bytes] | None]:
        """Open a layer; None if there is no recipe. Reading may raise SourceError."""
        if diff_id in self._wrong or self.size(diff_id) is None:
            yield None
            return
        with self._opened(self._recipe(diff_id)) as fd:
            yield _joined(self._pieces(diff_id, fd))

    def discard(self, diff_id: str) -> None:
        """Forget a recipe that is wrong."""
        self._wrong.add(diff_id)
        with suppress(OSError):
            os.unlink(_link(self._store, diff_id))

    def keep(self, data: int, layers: Sequence[tuple[str, int, int]]) -> None:
        """Do nothing: a recipe needs the objects, which are there later."""

    def _recipe(self, diff_id: str) -> str:
        """Return the digest of a recipe; raise OSError if there is none."""
        digest = os.readlink(_link(self._store, diff_id))
        if _NAME.fullmatch(digest) is None:
            raise OSError(f"{digest!r} is no object")
        return digest

    @contextmanager
    def _opened(self, digest: str) -> Iterator[int]:
        fd = os.open(_path(self._store, digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("it is no regular file")
            yield fd
        finally:
            os.close(fd)

    def _pieces(self, diff_id: str, fd: int) -> Iterator[bytes | memoryview]:
        try:
            content = _content_of(fd)
            for _, length, digest in _records(content, _size(content, diff_id)):
                if digest is None:
                    yield from content.pieces(length)
                else:
                    yield from _content(_path(self._store, digest), length)
        except (OSError, ValueError) as error:
            raise SourceError(f"it cannot be made of the objects on the disk: {error}", hint="fetch it") from error


class _Reader:
    """Reads what a generator yields."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        # A view: what is left of a chunk is not copied for each small piece.
        self._chunks, self._held = chunks, memoryview(b"")

    def pieces(self, length: int) -> Iterator[memoryview]:
        """Yield so many bytes; raise ValueError."""
        while length:
            if not self._held:
                self._held = memoryview(next(self._chunks, b""))
                if not self._held:
                    raise ValueError("the recipe is too short")
            piece, self._held = self._held[:length], self._held[length:]
            length -= len(piece)
            yield piece

    def take(self, length: int) -> bytes:
        """Return so many bytes; raise ValueError."""
        return b"".join(self.pieces(length))


def _content_of(recipe: int) -> _Reader:
    """Return what a recipe says, whose descriptor is at its beginning or was only read by ``pread``."""
    os.lseek(recipe, 0, os.SEEK_SET)
    return _Reader(iter(lambda: os.read(recipe, _STEP), b""))


def _size(content: _Reader, diff_id: str) -> int:
    """Return the size of the layer that a recipe is for; raise ValueError if it is for another one."""
    magic, length, size = _HEAD.unpack(content.take(_HEAD.size))
    if magic != _MAGIC or content.take(length) != diff_id.encode():
        raise ValueError("the recipe is not one of this layer")
    return int(size)


def _records(content: _Reader, size: int) -> Iterator[tuple[int, int, str | None]]:
    """Yield place in the layer, length, and object of each part; bytes that are in no object follow in the content."""
    start = 0
    while start < size:
        kind, length = _RECORD.unpack(content.take(_RECORD.size))
        if length > size - start:
            raise ValueError("the recipe is of a larger layer")
        yield start, length, None if kind == _OTHER else content.take(_DIGEST).hex()
        start += length


def _joined(pieces: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces: each costs a call, and wakes whoever follows the writer."""
    held, size = list[bytes | memoryview](), 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _STEP:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _content(path: str, size: int) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise OSError(f"{path} is another file")
        while piece := os.read(fd, _STEP):
            yield piece
    finally:
        os.close(fd)


def _path(store: str, digest: str) -> str:
    return os.path.join(store, OBJECTS, object_path(digest))


def _link(store: str, diff_id: str) -> str:
    return os.path.join(store, LAYERS, diff_id.replace(":", "-"))


def add_recipes(
    writer: StoreWriter,
    image: VerifiedImage,
    contents: Mapping[int, str | bytes],
    nodes: Sequence[Node],
    placed: Mapping[str, str],
) -> dict[str, str]:
    """Add the recipes of an image's layers to a store, and return their digests by diffID; raise OSError, RootfsError.

    ``contents`` are the objects of ``nodes``, by their identities, as ``store_root`` makes them. The recipes depend on
    the image alone, so its root always has the same digest: those of layers that were ``placed`` are used again if they
    have the same objects. Files that upper layers hide are none, so a root lists all objects of its recipes.
    """
    found = sorted(
        (node.offset, node.size, content)
        for node in nodes
        if isinstance(content := contents.get(id(node)), str) and node.extents is None and node.size >= _LEAST
    )
    recipes = dict[str, str]()
    data = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for layer in dict.fromkeys(image.layers):
            parts = _parts(layer, found)
            known = {place: kept.digest for place, kept in layer.left_out.items()}
            if layer.diff_id in placed and known == {(offset, size): digest for offset, size, digest in parts}:
                recipes[layer.diff_id] = placed[layer.diff_id]
            else:
                fill(image, known.keys() - {(offset, size) for offset, size, _ in parts})
                recipes[layer.diff_id] = writer.add_written(_recipe_writer(data, layer, parts))
    finally:
        os.close(data)
    return recipes


def _parts(layer: VerifiedLayer, found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Return place, size and digest of the objects in a layer, of those in the data file: sorted, none twice."""
    parts, done, end = list[tuple[int, int, str]](), layer.offset, layer.offset + layer.size
    for offset, size, digest in found[bisect(found, (layer.offset,)) :]:
        if offset >= end:
            break
        # Of two names for the same data, the first counts.
        if done <= offset and offset + size <= end:
            parts.append((offset, size, digest))
            done = offset + size
    return parts


def name_layers(store: str, recipes: Mapping[str, str]) -> None:
    """Make the links to the recipes of layers; raise OSError."""
    os.makedirs(os.path.join(store, LAYERS), mode=0o700, exist_ok=True)
    for diff_id, digest in recipes.items():
        path = _link(store, diff_id)
        with suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        os.symlink(digest, f"{path}.new")
        os.rename(f"{path}.new", path)


def forget_layers(store: str, kept: Collection[str]) -> None:
    """Remove the links of all layers but those kept; raise OSError."""
    directory = os.path.join(store, LAYERS)
    names = {diff_id.replace(":", "-") for diff_id in kept}
    for name in set(os.listdir(directory) if os.path.isdir(directory) else ()) - names:
        os.unlink(os.path.join(directory, name))


def _recipe_writer(data: int, layer: VerifiedLayer, parts: Sequence[tuple[int, int, str]]) -> Callable[[int], None]:
    """Return what writes the recipe of a layer in a data file to a file."""

    def written() -> Iterator[bytes]:
        def other(start: int, stop: int) -> Iterator[bytes]:
            if start < stop:
                yield _RECORD.pack(_OTHER, stop - start)
            while start < stop:
                part = os.pread(data, min(stop - start, _STEP), start)
                if not part:
                    raise OSError(errno.EIO, "the data file is too short")
                yield part
                start += len(part)

        diff_id = layer.diff_id.encode()
        yield _HEAD.pack(_MAGIC, len(diff_id), layer.size) + diff_id
        done = layer.offset
        for offset, size, digest in parts:
            yield from other(done, offset)
            yield _RECORD.pack(_OBJECT, size) + bytes.fromhex(digest)
            done = offset + size
        yield from other(done, layer.offset + layer.size)

    def write(fd: int) -> None:
        for piece in _joined(written()):
            write_all(fd, piece)

    return write
