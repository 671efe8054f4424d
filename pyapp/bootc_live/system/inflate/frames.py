"""Divide a zstd file into runs of whole frames, which can be decoded beside each other (RFC 8878, 3.1).

Only the places of frames are found here: the decoder finds out what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bootc_live.system.inflate.zstd import ZSTD, skippable

# Compressed bytes of a run, and the most that a single frame may have to be one.
_RUN, _LARGEST = 2**20, 8 * 2**20
# Of a run: the pipe that reports their ends is read after the run was written, and may have only one page.
_MOST_FRAMES = 4096
# Bytes that are read at once, at least.
_STEP = 256 * 2**10
# The end of what is not a frame.
_NEVER = 2**63


@dataclass(frozen=True)
class Run:
    """Some whole frames."""

    data: bytes
    frames: int


@dataclass(frozen=True)
class LargeFrame:
    """A frame that is not worth holding, an incomplete one, or no frame; read its pieces before the next run."""

    pieces: Iterator[bytes]


def runs(chunks: Iterator[bytes]) -> Iterator[Run | LargeFrame]:
    """Yield all bytes of a file: frames in runs of about a mebibyte, or a frame that is much larger."""
    return _Splitter(chunks).runs()


@dataclass(slots=True)
class _Frame:
    """A frame that is walked through: where its next block is, or (``blocks`` is False) its end."""

    at: int
    blocks: bool = False
    checksum: int = 0

    def walk(self, data: bytes) -> bool:
        """Go on as far as the data allow; return whether they contain the end."""
        at, blocks, last = self.at, self.blocks, len(data) - 3
        while blocks and at <= last:
            number = data[at] | data[at + 1] << 8 | data[at + 2] << 16
            # A block of type 1 is one byte that is repeated.
            at += 3 + (1 if number >> 1 & 3 == 1 else number >> 3)
            blocks = not number & 1
        if self.blocks and not blocks:
            at += self.checksum
        self.at, self.blocks = at, blocks
        return not blocks and at <= len(data)


class _Splitter:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        # What was not passed on: it begins with a frame.
        self._held = b""

    def runs(self) -> Iterator[Run | LargeFrame]:
        while self._held or self._more():
            frames, end, frame = self._whole_frames()
            if frames:
                yield Run(self._take(end), frames)
            else:
                # Without a frame, the file ends within a header.
                yield LargeFrame(self._pass(frame or _Frame(_NEVER)))

    def _whole_frames(self) -> tuple[int, int, _Frame | None]:
        """Read up to a run of whole frames: return their number, their end, and what follows them."""
        frames = end = 0
        frame = _frame(self._held, 0)
        while end < _RUN and frames < _MOST_FRAMES:
            if frame is not None and frame.walk(self._held):
                frames, end = frames + 1, frame.at
                frame = _frame(self._held, end)
            elif len(self._held) - end >= _LARGEST or not self._more():
                break
            elif frame is None:
                frame = _frame(self._held, end)
        return frames, end, frame

    def _pass(self, frame: _Frame) -> Iterator[bytes]:
        """Yield a frame that begins what is held, up to its end or that of the file."""
        while not frame.walk(self._held):
            piece = self._take(frame.at)
            frame.at -= len(piece)
            yield piece
            if not self._more():
                return
        yield self._take(frame.at)

    def _take(self, count: int) -> bytes:
        taken, self._held = self._held[:count], self._held[count:]
        return taken

    def _more(self) -> bool:
        # Small chunks one by one would copy what is held again and again.
        parts, length = [self._held], 0
        while length < _STEP and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            length += len(chunk)
        self._held = b"".join(parts)
        return length > 0


def _frame(data: bytes, at: int) -> _Frame | None:
    """Return the frame that begins at a place, None if its header is not complete."""
    if len(data) < at + 5:
        return None
    magic = data[at : at + 4]
    if skippable(magic):
        size = data[at + 4 : at + 8]
        return _Frame(at + 8 + int.from_bytes(size, "little")) if len(size) == 4 else None
    if magic != ZSTD:
        return _Frame(_NEVER)
    descriptor = data[at + 4]
    single = descriptor >> 5 & 1
    begin = at + 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    return _Frame(begin, blocks=True, checksum=descriptor & 4)
