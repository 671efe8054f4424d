"""Decode one zstd file of many frames, such as zstd:chunked, with several confined processes.

Most large frames do not say how large their content is, so nobody knows where it belongs before all earlier frames are
decoded. Each process decodes a run of frames into a file of its own in RAM; what is finished is copied in order.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import FileIO

from bootc_live.base.errors import ImageError
from bootc_live.system.cleanup.processes import Started, started
from bootc_live.system.files import space_for, write_all
from bootc_live.system.inflate.confined import FRAME_ENDED, Status, inflate_frames_confined
from bootc_live.system.inflate.frames import LargeFrame, Run, runs
from bootc_live.system.inflate.streams import DAMAGED, LONGEST_MESSAGE, check_end, inflating, large_pipe

# More only wait for each other: what comes out is hashed by one core.
MOST = 4
# The most that a run may decode to in a file of its own.
_ROOM = 32 * 2**20
# Small enough for the caches of a processor.
_PIECE = 256 * 1024
_LOOK = 0.002

Pause = Callable[[Callable[[], bool]], None]


@dataclass
class _Decoder:
    """A process with a run, how many frames of that it still has to decode, and what it said."""

    process: Started
    pipe: FileIO
    messages: FileIO
    room: int
    run: Run
    stack: ExitStack
    frames: int = 0
    said: bytes = b""

    def begin(self, run: Run) -> None:
        """Let it decode a run into its empty room."""
        self.run, self.frames = run, run.frames
        try:
            write_all(self.pipe.fileno(), run.data)
        except BrokenPipeError:
            # It has ended. Who waits for it finds out why.
            return

    def finished(self) -> bool:
        """Wait until the run is decoded; return False if the process ended before."""
        while self.frames > 0:
            said = os.read(self.messages.fileno(), LONGEST_MESSAGE)
            self.frames -= said.count(FRAME_ENDED)
            self.said += said.replace(FRAME_ENDED, b"")
            if not said or len(self.said) > LONGEST_MESSAGE:
                return False
        return True

    def size(self) -> int:
        """Return how much it has decoded."""
        return os.lseek(self.room, 0, os.SEEK_CUR)

    def move(self, target: int) -> None:
        """Move what was decoded to another file; raise OutOfMemoryError."""
        size, at = self.size(), 0
        with space_for(target):
            while at < size:
                piece = os.pread(self.room, min(_PIECE, size - at), at)
                write_all(target, piece)
                at += len(piece)
        os.lseek(self.room, 0, os.SEEK_SET)


@dataclass
class Team:
    """Up to ``most`` processes that decode a file into ``target``, from byte ``begin`` to before ``end``.

    The position in ``target`` tells how much is written. ``pause`` is called as ``wait`` of ``inflating``.
    """

    target: int
    begin: int
    end: int
    most: int
    pause: Pause
    cleanup: ExitStack
    abandoned: threading.Event = field(default_factory=threading.Event)
    free: list[_Decoder] = field(default_factory=list)
    # In the order of their runs.
    busy: deque[_Decoder] = field(default_factory=deque)

    def feed(self, chunks: Iterator[bytes]) -> None:
        """Let the processes decode chunks. All are read even if they are damaged; raise as ``check_end``."""
        try:
            for run in runs(chunks):
                if isinstance(run, LargeFrame):
                    self._collect_all()
                    self._decode_alone(run.pieces)
                else:
                    if not self.free and len(self.busy) == self.most:
                        self._collect()
                    self._begin(run)
                self.pause(self.abandoned.is_set)
                if self.abandoned.is_set():
                    return
            self._collect_all()
        finally:
            # What is not decoded is read to be hashed.
            while not self.abandoned.is_set() and next(chunks, None) is not None:
                pass

    def abandon(self) -> None:
        """Let ``feed`` return."""
        self.abandoned.set()
        for decoder in (*self.busy, *self.free):
            decoder.process.kill()

    def _begin(self, run: Run) -> None:
        decoder = self.free.pop() if self.free else self._start(run)
        self.busy.append(decoder)
        decoder.begin(run)

    def _start(self, run: Run) -> _Decoder:
        room = os.memfd_create("frames", os.MFD_CLOEXEC)
        # Closed at the end, or when the process has ended before.
        stack = self.cleanup.enter_context(ExitStack())
        stack.callback(os.close, room)
        source, feeding = stack.enter_context(large_pipe())
        messages, told = stack.enter_context(large_pipe())
        descriptors = (source.fileno(), room, told.fileno())
        process = stack.enter_context(started(inflate_frames_confined, _ROOM, descriptors=descriptors))
        source.close()
        told.close()
        return _Decoder(process, feeding, messages, room, run, stack)

    def _collect_all(self) -> None:
        while self.busy:
            self._collect()

    def _collect(self) -> None:
        """Wait for the oldest run, and move it to its place."""
        decoder = self.busy.popleft()
        if decoder.finished():
            if os.lseek(self.target, 0, os.SEEK_CUR) + decoder.size() > self.end:
                self._check_end(Status.TOO_LARGE)
            decoder.move(self.target)
            self.free.append(decoder)
            return
        decoder.process.kill() if len(decoder.said) > LONGEST_MESSAGE else decoder.pipe.close()
        status = decoder.process.wait()
        decoder.stack.close()
        if status == Status.TOO_LARGE:
            self._decode_alone(iter([decoder.run.data]))
            return
        self._check_end(status, decoder.said)
        raise ImageError("it is damaged: its decoder ended too early", hint=DAMAGED)

    def _check_end(self, status: int, said: bytes = b"") -> None:
        check_end(status, said, self.target, self.end - self.begin)

    def _decode_alone(self, pieces: Iterator[bytes]) -> None:
        """Decode pieces directly into the file."""
        with inflating("zstd", pieces, self.target, self.begin, self.end, self.pause) as inflater:
            while not inflater.ended(_LOOK):
                if self.abandoned.is_set():
                    raise ImageError("it was abandoned", hint=DAMAGED)
            inflater.finish()


@dataclass(frozen=True)
class FramesInflater:
    """What ``inflating_frames`` yields; as ``Inflater``."""

    _fed: Future[None]

    def ended(self, seconds: float) -> bool:
        """Wait at most some seconds; return whether all output is written."""
        wait([self._fed], seconds)
        return self._fed.done()

    def finish(self) -> None:
        """Wait for the end; raise as ``check_end``."""
        self._fed.result()


@contextmanager
def inflating_frames(
    most: int, chunks: Iterator[bytes], target: int, begin: int, end: int, pause: Pause
) -> Iterator[FramesInflater]:
    """Decode chunks of zstd sequentially into a part of a file by up to ``most`` processes, which end with the block.

    ``pause`` is called as ``wait`` of ``inflating``. Raise OSError if no process can be started.
    """
    with ExitStack() as cleanup, ThreadPoolExecutor(max_workers=1) as feeder:
        team = Team(target, begin, end, min(most, MOST), pause, cleanup)
        try:
            yield FramesInflater(feeder.submit(team.feed, chunks))
        except BaseException:
            # Otherwise the feeder would wait for a process, or read on.
            team.abandon()
            raise
