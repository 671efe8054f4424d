"""Give a program a terminal of its own, in place of the caller's, to which it could type (ioctl_tty(2), TIOCSTI)."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_PIECE = 64 * 2**10
_STANDARD = (0, 1, 2)


@contextmanager
def own_terminal() -> Iterator[tuple[int, int] | None]:
    """Yield both ends of a new terminal, for this process and the program; None if standard input is no terminal.

    Keys are passed on as they are until the end of the block.
    """
    if not os.isatty(0):
        yield None
        return
    ours, theirs = os.openpty()
    before = termios.tcgetattr(0)

    def resize(_number: int = 0, _frame: FrameType | None = None) -> None:
        with suppress(OSError):
            fcntl.ioctl(ours, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))

    resize()
    handler = signal.signal(signal.SIGWINCH, resize)
    try:
        tty.setraw(0)
        yield ours, theirs
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)
        os.close(ours)


def enter_terminal(theirs: int | None) -> None:
    """Leave the caller's session; make a terminal the controlling one of this process, in place of the caller's."""
    os.setsid()
    if theirs is None:
        return
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    for number in _STANDARD:
        if os.isatty(number):
            os.dup2(theirs, number)
    os.close(theirs)


def relay(ours: int, process: int) -> None:
    """Pass on what is typed and what is printed, until a process (its pidfd) has ended."""
    reading = {0, ours, process}
    while reading:
        ready = select.select(reading, [], [])[0]
        if 0 in ready and not _pass_on(0, ours):
            reading.discard(0)
        if ours in ready and not _pass_on(ours, 1):
            return
        if ready == [process]:
            return


def _pass_on(source: int, target: int) -> bool:
    """Pass on some bytes; return False at the end."""
    try:
        piece = os.read(source, _PIECE)
    except OSError as error:
        # Nobody has the other end open any more.
        if error.errno == errno.EIO:
            return False
        raise
    view = memoryview(piece)
    while view:
        view = view[os.write(target, view) :]
    return bool(piece)
