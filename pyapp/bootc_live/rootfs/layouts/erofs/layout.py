"""Build the erofs layout: one self-contained image, written while the layers arrive.

No inflated layer is in memory as a whole: its files are compressed into the image as they arrive, and its memory is
freed. The same OCI image gives the same bytes, in the order of the layers and their members.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bootc_live.base.errors import ImageError, about
from bootc_live.base.threads import background_thread
from bootc_live.config.model import Compression, Layout
from bootc_live.formats.erofs import compressed as z_erofs
from bootc_live.formats.erofs.structures import (
    CHUNK_BASED,
    FLAT_INLINE,
    FLAT_PLAIN,
    INCOMPAT_CHUNKED,
    SUPER_OFFSET,
    Superblock,
)
from bootc_live.formats.tar.reader import Member
from bootc_live.formats.verity import HashTree, TreeHasher
from bootc_live.image.sink import LayerPlace
from bootc_live.image.verified import ResolvedImage, VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot, Finishing, cannot_hold, mounted_image, unchanged
from bootc_live.rootfs.layouts.erofs.chunks import ChunkMap, MapBudget
from bootc_live.rootfs.layouts.erofs.file_store import FileStore, Stored, file_store
from bootc_live.rootfs.layouts.erofs.writer import NO_ROOM, Body, Geometry, Room, write_tree
from bootc_live.rootfs.tree.follower import TarFollower, follow
from bootc_live.rootfs.tree.merge import HINT, Merging, Warn, unsaid
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.rootfs.tree.read_ahead import HeldMembers, PackedMembers
from bootc_live.system.files import full, no_space, space_for, write_at

_PAGE = 4096
_STEP = 2**20
_INDEX_ALIGN = 8
# EROFS counts blocks in 32 bits.
_LIMIT = 2**32


class ErofsBuilder:
    """The sink that consumes the layers of an image, and then writes its metadata. Use ``erofs_builder``."""

    consumes = True

    def __init__(self, path: str, fd: int, data_path: str, store: FileStore) -> None:
        """Begin with no layer; layers are in ``data_path`` until they are consumed."""
        self._path, self._fd, self._data_path, self._store = path, fd, data_path, store
        self._restart()

    def begin(self, image: ResolvedImage) -> int:
        """Keep the layers if the image begins with them, or else forget them; return how many are left."""
        if tuple(self._layers) != image.config.diff_ids[: len(self._layers)]:
            self._restart()
        return len(self._layers)

    @property
    def library(self) -> str:
        """The library that compressed the files, with its version; empty for none."""
        return self._store.library

    def _restart(self) -> None:
        self._layers: list[str] = []
        self._merging = Merging()
        self._files: dict[int, Stored] = {}
        self._store.truncate(_PAGE)

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[TarFollower]:
        """Consume the next layer while the block writes it; see ``LayerSink``."""
        end = self._store.end
        fd = os.open(self._data_path, os.O_RDWR | os.O_CLOEXEC)
        try:
            tar = TarFollower(fd, place.offset, keep=place.keep)
            reader = _LayerReader(tar, self._store)
            try:
                with background_thread(reader.run, tar.abandon, "layer") as wait:
                    yield tar
                    wait()
                self._apply(reader, len(self._layers))
            except BaseException:
                self._store.truncate(min(end, self._store.end))
                raise
            finally:
                tar.drop()
        finally:
            os.close(fd)
        self._layers.append(place.diff_id)

    def _apply(self, reader: _LayerReader, number: int) -> None:
        """Apply a verified layer's members to the tree."""
        # Files are found by their offsets, which are unique for each layer.
        base = number << 48
        for member, stored in reader.members():
            try:
                self._merging.apply(member, number, base)
            except ValueError as error:
                # A part of the layer is in the tree.
                self._restart()
                name = member.name.decode(errors="backslashreplace")
                raise ImageError(f"it cannot be used: member {name!r} {error}", hint=HINT) from error
            if stored is not None:
                self._files[base + member.offset] = stored

    def content(self, node: Node) -> bytes:
        """Return the content of a small file of the merged tree; its layer is gone."""
        return self._store.content(self._files[node.offset], node.size) if node.size else b""

    def finish(
        self,
        image: VerifiedImage,
        finishing: Finishing = unchanged,
        *,
        keep_times: bool = False,
        verity: bool = False,
        warn: Warn = unsaid,
    ) -> BuiltRoot:
        """Complete the image of all consumed layers, which must be those of a verified image.

        ``finishing`` may change the merged tree; times are 0 unless ``keep_times`` is set; ``warn`` is told what Linux
        does not allow. With ``verity``, the hash tree of dm-verity follows the image in its file. Raise RootfsError for
        what EROFS cannot hold, and OutOfMemoryError.
        """
        if tuple(self._layers) != image.resolved.config.diff_ids:
            raise ValueError("layers of another image")
        self._merging.tell(warn)
        labelled = finishing(self._merging.root, image)
        try:
            with about(f"the EROFS image of {image.resolved.source_text!r}"), space_for(self._fd):
                metadata, size = self._write(keep_times=keep_times)
                # Neither is needed again, and both are large.
                self._merging, self._files = Merging(), {}
                digest, tree = hash_image(self._fd, verity=verity)
                if tree is not None:
                    write_at(self._fd, size, tree.packed)
        except ValueError as error:
            raise cannot_hold(image, error) from error
        return BuiltRoot(
            Layout.EROFS,
            partial(mounted_image, self._path, self._store.block, tree),
            metadata,
            size,
            digest,
            labelled=labelled,
            library=self.library,
            root_hash=None if tree is None else tree.root_hash,
        )

    def _write(self, *, keep_times: bool) -> tuple[int, int]:
        if not keep_times:
            for node in walk(self._merging.root):
                node.mtime = node.mtime_ns = 0
        self._forget_hidden()
        return write_image(self._merging.root, self._store, self._files)

    def _forget_hidden(self) -> None:
        """Free what upper layers replaced or removed."""
        for node in walk(self._merging.root):
            if node.kind == "file" and node.offset in self._files:
                self._files[node.offset].used = True
        for offset in [offset for offset, stored in self._files.items() if not stored.used]:
            self._store.forget(self._files.pop(offset))


class _LayerReader:
    """Reads one layer while it is written, and stores its files."""

    def __init__(self, tar: TarFollower, store: FileStore) -> None:
        self._tar, self._store = tar, store
        self._members = PackedMembers(HeldMembers())
        self._files: list[Stored | None] = []
        self._error: Exception | None = None

    def members(self) -> Iterator[tuple[Member, Stored | None]]:
        """Return all members with their stored data, once; raise ImageError and OutOfMemoryError."""
        if isinstance(self._error, ValueError):
            raise ImageError(f"it cannot be used: {self._error}", hint=HINT) from self._error
        if isinstance(self._error, OSError) and no_space(self._error):
            raise full(self._store.fd) from self._error
        if self._error is not None:
            raise self._error
        return zip(self._members, self._files, strict=True)

    def run(self) -> None:
        """Read the layer to its end, or until the tar is abandoned."""
        self._error = follow(self._tar, self._store_files)

    def _store_files(self, members: Iterator[Member]) -> None:
        for member in members:
            self._members.add(member)
            self._files.append(self._stored(member))
        self._store.flush()
        self._members.end()

    def _stored(self, member: Member) -> Stored | None:
        self._tar.release(member.offset)
        if member.kind != "file" or not member.size:
            return None
        if member.extents is not None:
            return self._store.put_sparse(self._read, member.size, member.extents)
        stored = self._store.put(self._read, member.offset, member.size)
        self._tar.release(member.offset + member.size)
        return stored

    def _read(self, start: int, length: int) -> bytes:
        data = self._tar.read(start, length)
        self._tar.release(start)
        return data


class _ImageBodies:
    """The files' data in the image."""

    def __init__(self, store: FileStore, files: dict[int, Stored]) -> None:
        self._store, self._files = store, files
        self.maps: dict[int, ChunkMap] = {}
        self._budget = MapBudget()

    def room(self, node: Node) -> Room:
        """Return the room for an index or a map, and for inlined data."""
        stored = self._files.get(node.offset)
        if stored is None or not node.size:
            return NO_ROOM
        if stored.extents is not None:
            if node.offset not in self.maps:
                made = self._budget.reserve(node.size, stored.chunk, self._store.block_bits)
                made.fill(stored.extents, node.size)
                self.maps[node.offset] = made
            return Room(table=self.maps[node.offset].reserved * 4)
        if stored.pieces:
            return Room(z_erofs.index_size(node.size), len(stored.pieces[-1].inline), _INDEX_ALIGN)
        return Room(inline=len(stored.inline))

    def place(self, _node: Node, free: int) -> int:
        """Return ``free``: all data is in front of the inodes."""
        return free

    def body(self, node: Node) -> Body:
        """Point at the stored data."""
        stored = self._files.get(node.offset)
        if stored is None or not node.size:
            return Body(FLAT_PLAIN, 0)
        if stored.extents is not None:
            made = self.maps[node.offset]
            return Body(CHUNK_BASED, made.chunk_format, made.packed())
        if stored.pieces:
            index = z_erofs.packed_index(stored.pieces, self._store.algorithm)
            return Body(z_erofs.COMPRESSED_FULL, stored.blocks, index + stored.pieces[-1].inline, _INDEX_ALIGN)
        if stored.inline:
            return Body(FLAT_INLINE, stored.block, stored.inline)
        return Body(FLAT_PLAIN, stored.block)


def write_image(root: Node, store: FileStore, files: dict[int, Stored]) -> tuple[int, int]:
    """Write the metadata of an image whose ``files`` are in a store, by their offsets in the tree.

    Return the number of bytes that describe files, and of all bytes. Raise ValueError and OSError.
    """
    bodies = _ImageBodies(store, files)
    begin = -(-store.end // _PAGE) * _PAGE
    compressed = store.compression is not Compression.NONE
    geometry = Geometry(store.block_bits, begin, inline=True)
    made = write_tree(list(walk(root)), store.fd, geometry, bodies, _LIMIT << store.block_bits)
    size = -(-made.end // _PAGE) * _PAGE
    os.ftruncate(store.fd, size)
    incompat = (z_erofs.INCOMPAT if compressed else 0) | (INCOMPAT_CHUNKED if bodies.maps else 0)
    head = Superblock(
        store.block_bits,
        made.root,
        made.inodes,
        size >> store.block_bits,
        begin >> store.block_bits,
        incompat,
        1 << store.algorithm if compressed else 0,
    ).packed()
    if compressed:
        head += z_erofs.configurations(store.algorithm)
    write_at(store.fd, SUPER_OFFSET, head)
    return size - begin, size


@contextmanager
def erofs_builder(path: str, data_path: str, compression: Compression) -> Iterator[ErofsBuilder]:
    """Create the image file ``path`` for layers that will be in ``data_path``; an error removes it.

    Raise RootfsError if the compression is missing, and OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with file_store(fd, compression) as store:
            yield ErofsBuilder(path, fd, data_path, store)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def hash_image(fd: int, *, verity: bool) -> tuple[str, HashTree | None]:
    """Return the digest of a whole file and, with ``verity``, its hash tree."""
    hasher, tree, offset = hashlib.sha256(), TreeHasher(), 0
    while data := os.pread(fd, _STEP, offset):
        hasher.update(data)
        if verity:
            tree.update(data)
        offset += len(data)
    return f"sha256:{hasher.hexdigest()}", tree.finish() if verity else None
