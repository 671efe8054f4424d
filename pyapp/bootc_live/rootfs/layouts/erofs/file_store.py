"""Store the data of files in a self-contained EROFS image, one after the other, compressed in parallel."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.config.model import Compression
from bootc_live.formats.erofs import compressed as z_erofs
from bootc_live.formats.erofs.compressed import CLUSTER, EXTENT, INLINE_LIMIT, Piece
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.layouts.erofs.chunks import chunk_size, windows
from bootc_live.rootfs.layouts.erofs.compressor import compressor, decompressor
from bootc_live.system.files import punch_hole, write_at

_ALGORITHMS = {Compression.LZ4: z_erofs.LZ4, Compression.ZSTD: z_erofs.ZSTD}
# Smaller files do not become smaller with an index.
_WORTH_COMPRESSING = 256
_INDEX_OF_ONE = z_erofs.index_size(1)
# The most extents that are being compressed or wait for an earlier one.
_PENDING = 64
_STEP = 2**20
# The superblock and the description of the compression.
_HEAD = 4096

# Returns ``length`` bytes of a layer from ``start`` on.
Read = Callable[[int, int], bytes]


@dataclass(eq=False, slots=True)
class Stored:
    """A file's data: from ``block`` on with its end ``inline`` behind the inode, or in ``pieces`` or ``extents``.

    Extents begin and end at multiples of ``chunk``, or with the file. ``blocks`` is the number of blocks in all.
    ``used`` tells whether the tree has the file.
    """

    block: int = 0
    blocks: int = 0
    inline: bytes = b""
    pieces: Sequence[Piece] = ()
    extents: tuple[Extent, ...] | None = None
    chunk: int = 0
    used: bool = False

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        # Most files have none or one: a list for each would take a megabyte.
        if isinstance(self.pieces, list):
            self.pieces.append(piece)
        else:
            self.pieces = [*self.pieces, piece]


class FileStore:
    """The data area of an image, which grows at its end. Use ``file_store``.

    Its blocks have 4 KiB, which every kernel with EROFS can mount.
    """

    block_bits = 12
    block = 1 << block_bits

    def __init__(self, fd: int, compression: Compression, pool: ThreadPoolExecutor) -> None:
        """Begin an empty store; raise RootfsError if the compression is missing."""
        self.compression = compression
        self.algorithm = _ALGORITHMS.get(compression, 0)
        self.library = ""
        self.fd, self._pool = fd, pool
        self._compress: Callable[[bytes], bytes | None] = lambda _: None
        if compression is not Compression.NONE:
            self._compress, self.library = compressor(compression, EXTENT + CLUSTER)
            self._decompress = decompressor(compression)
        self._end = _HEAD
        self._pending: deque[tuple[Future[bytes | None], bytes, Stored, bool]] = deque()

    @property
    def end(self) -> int:
        """The first free byte, at the start of a block."""
        return self._end

    def truncate(self, end: int) -> None:
        """Forget everything stored from ``end`` on, and everything being compressed."""
        for future, *_ in self._pending:
            future.cancel()
        self._pending.clear()
        os.ftruncate(self.fd, end)
        self._end = end

    def put(self, read: Read, start: int, size: int) -> Stored:
        """Store a file of ``size`` bytes from ``start`` on; it is complete after ``flush``."""
        stored = Stored()
        if self.compression is Compression.NONE:
            rest = size % self.block
            inline = rest if rest <= INLINE_LIMIT else 0
            if size > inline:
                stored.block = self._end >> self.block_bits
                self._copy(read, start, size - inline)
                stored.blocks = (self._end >> self.block_bits) - stored.block
            stored.inline = _exactly(read, start + size - inline, inline)
            return stored
        if size < _WORTH_COMPRESSING:
            stored.inline = _exactly(read, start, size)
            return stored
        end = start + size
        for length in z_erofs.extents(size):
            data = _exactly(read, start, length)
            start += length
            while len(self._pending) >= _PENDING:
                self._settle()
            self._pending.append((self._pool.submit(self._compress, data), data, stored, start == end))
        return stored

    def put_sparse(self, read: Read, size: int, extents: tuple[Extent, ...]) -> Stored:
        """Store the data of a sparse file in whole chunks, uncompressed."""
        self.flush()
        stored, todo, result = Stored(chunk=chunk_size(extents, size, CLUSTER)), list(reversed(extents)), []
        for start, stop in windows(extents, stored.chunk):
            self._end = -(-self._end // CLUSTER) * CLUSTER
            window = self._end
            os.ftruncate(self.fd, window + stop - start)
            while todo and todo[-1].start < stop:
                part = todo.pop()
                self._end = window + part.start - start
                self._copy(read, part.data, part.length, pad=False)
            self._end = window + stop - start
            result.append(Extent(start, min(stop, size) - start, window))
            stored.blocks += (stop - start) >> self.block_bits
        stored.extents = tuple(result)
        return stored

    def flush(self) -> None:
        """Write everything that is being compressed; raise OSError."""
        while self._pending:
            self._settle()

    def content(self, stored: Stored, size: int) -> bytes:
        """Return the ``size`` bytes of a file that fits into memory, after ``flush``."""
        if stored.extents is not None:
            parts = bytearray(size)
            for extent in stored.extents:
                parts[extent.start : extent.start + extent.length] = os.pread(self.fd, extent.length, extent.data)
            return bytes(parts)
        if stored.pieces:
            return b"".join(map(self._piece, stored.pieces))
        return os.pread(self.fd, size - len(stored.inline), stored.block << self.block_bits) + stored.inline

    def _piece(self, piece: Piece) -> bytes:
        data = piece.inline or os.pread(self.fd, piece.blocks << self.block_bits, piece.block << self.block_bits)
        # Data of LZ4 and zstd never begins with zeros, as the padding does.
        return data[: piece.length] if piece.raw else self._decompress(data.lstrip(b"\0"), piece.length)

    def forget(self, stored: Stored) -> None:
        """Free the memory of a hidden file; its place then reads as zeros."""
        for piece in stored.pieces:
            punch_hole(self.fd, piece.block << self.block_bits, piece.blocks << self.block_bits)
        for extent in stored.extents or ():
            punch_hole(self.fd, extent.data, -(-extent.length // CLUSTER) * CLUSTER)
        if stored.block:
            punch_hole(self.fd, stored.block << self.block_bits, stored.blocks << self.block_bits)

    def _settle(self) -> None:
        future, data, stored, last = self._pending.popleft()
        packed = future.result()
        if last and packed is not None and len(packed) <= INLINE_LIMIT and len(packed) + _INDEX_OF_ONE < len(data):
            stored.add(Piece(len(data), 0, 0, inline=packed))
        elif not stored.pieces and last and len(data) <= INLINE_LIMIT:
            stored.inline = data
        else:
            self._append(data, packed, stored)
        if last and all(piece.raw for piece in stored.pieces) and stored.pieces:
            # Nothing became smaller: it is an uncompressed file with consecutive blocks.
            stored.block = stored.pieces[0].block
            stored.pieces = ()

    def _append(self, data: bytes, packed: bytes | None, stored: Stored) -> None:
        raw_blocks = -(-len(data) // self.block)
        blocks = raw_blocks if packed is None else -(-len(packed) // self.block)
        raw = packed is None or blocks >= raw_blocks or len(data) < CLUSTER
        if raw:
            body, blocks = data.ljust(raw_blocks * self.block, b"\0"), raw_blocks
        else:
            # The kernel expects the data at the end of its blocks.
            body = (packed or b"").rjust(blocks * self.block, b"\0")
        stored.add(Piece(len(data), self._end >> self.block_bits, blocks, raw=raw))
        stored.blocks += blocks
        write_at(self.fd, self._end, body)
        self._end += len(body)

    def _copy(self, read: Read, start: int, size: int, *, pad: bool = True) -> None:
        done = 0
        while done < size:
            data = _exactly(read, start + done, min(_STEP, size - done))
            write_at(self.fd, self._end, data)
            done += len(data)
            self._end += len(data)
        if pad:
            self._end = -(-self._end // self.block) * self.block


@contextmanager
def file_store(fd: int, compression: Compression) -> Iterator[FileStore]:
    """Yield a store with threads that end with the block; raise RootfsError."""
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)), thread_name_prefix="compress") as pool:
        store = FileStore(fd, compression, pool)
        try:
            yield store
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _exactly(read: Read, start: int, length: int) -> bytes:
    data = read(start, length)
    if len(data) != length:
        raise ValueError(f"the tar ends inside the data of a member, {length - len(data)} bytes too early")
    return data
