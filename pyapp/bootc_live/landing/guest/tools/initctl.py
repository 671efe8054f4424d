"""Serve /dev/initctl, where ``virsh shutdown``, telinit(8) and others put requests for an init (initctl(5))."""

from __future__ import annotations

import os
import select
import signal
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from bootc_live.base.errors import BootcLiveError, ConfigError, LandingError
from bootc_live.base.output import print_message
from bootc_live.landing.guest.tools.inits import Wish, way_to_ask
from bootc_live.system.cleanup.guard import Signals

# struct init_request: magic number, command, runlevel, seconds before SIGKILL, and 368 bytes for other commands.
_REQUEST = struct.Struct("=4i368x")
_MAGIC = struct.pack("=i", 0x03091969)
_CHANGE_RUNLEVEL = 1
# Read at once; the kernel never gives a part of a request, because it is shorter than PIPE_BUF (pipe(7)).
_PIECE, _MOST = 1 << 16, 1 << 20
_FIRST_FREE, _READY = 3, "ready"


@dataclass(frozen=True)
class Request:
    """A request: a command, and a runlevel as a character or 0; ``raw`` is how it was written."""

    command: int
    runlevel: int
    raw: bytes

    @property
    def wish(self) -> Wish | None:
        """What it asks for, if that is to power off or to reboot."""
        wishes = {ord(wish): wish for wish in Wish}
        return wishes.get(self.runlevel) if self.command == _CHANGE_RUNLEVEL else None


def parse_requests(data: bytes) -> list[Request]:
    """Return the requests in what was written to the FIFO; everything between them is skipped.

    A request that begins inside of another one tells that the writer of that other one did not end it.
    """
    found, start = [], data.find(_MAGIC)
    while start >= 0:
        following = data.find(_MAGIC, start + 1)
        end = start + _REQUEST.size
        if end <= len(data) and not start < following < end:
            _, command, runlevel, _ = _REQUEST.unpack_from(data, start)
            found.append(Request(command, runlevel, data[start:end]))
        start = following
    return found


def serve_beside(path: str) -> None:
    """Serve a FIFO by a process of its own, for this process, which is an init or becomes one; raise LandingError."""
    pid = os.getpid()
    reading, told = os.pipe()
    if os.fork() == 0:
        _serve_alone(path, pid, told)
    os.close(told)
    with open(reading, encoding="utf-8", errors="replace") as file:
        answer = file.read()
    if answer != _READY:
        problem = answer or "the process that would serve it has ended"
        raise LandingError(f"initctl: {problem}", hint="correct initctl: or devices: in the guest's file")


def _serve_alone(path: str, pid: int, told: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(told, _FIRST_FREE)
        os.closerange(_FIRST_FREE + 1, os.sysconf("SC_OPEN_MAX"))
        serve(path, pid, _tell_ready)
    except BootcLiveError as error:
        os.write(_FIRST_FREE, error.message.encode(errors="replace"))
    finally:
        os._exit(0)


def _tell_ready() -> None:
    os.write(_FIRST_FREE, _READY.encode())
    os.close(_FIRST_FREE)


def serve(path: str, pid: int, ready: Callable[[], None] | None = None) -> int:
    """Serve a FIFO at ``path`` until the process ``pid``, an init, has ended, or a signal ends this one; return 0.

    Call ``ready``, or say so, when the FIFO is there. Raise ConfigError if that cannot be.
    """
    try:
        init = os.pidfd_open(pid)
    except OSError as error:
        raise ConfigError(f"PID '{pid}' cannot be watched: {error.strerror}", hint="name a running process") from error
    try:
        with Signals(signal.SIG_IGN) as signals, initctl_fifo(path) as fifo:
            ready() if ready else _say(f"{path} is served for process {pid}")
            while not {init, signals.read} & set(select.select([fifo, init, signals.read], [], [])[0]):
                for request in parse_requests(_drained(fifo)):
                    _answer(request, pid, init, fifo)
    finally:
        os.close(init)
    return 0


def _drained(fifo: int) -> bytes:
    data = b""
    with suppress(BlockingIOError):
        while len(data) < _MOST:
            data += os.read(fifo, _PIECE)
    return data


def _answer(request: Request, pid: int, handle: int, fifo: int) -> None:
    if request.wish is None:
        _say(f"initctl: request {request.command} for runlevel {request.runlevel} is not for a container")
        return
    name = request.wish.name.lower().replace("_", " ")
    try:
        way = way_to_ask(pid, handle, request.wish, request.raw, fifo)
        # Before it is asked: it may end all processes at once.
        _say(f"initctl: {name}: {way.text}")
        way.ask()
    except OSError as error:
        _say(f"initctl: {name}: process {pid} cannot be asked: {error.strerror}")


def _say(text: str) -> None:
    # The console may be gone.
    with suppress(OSError):
        print_message(text)


@contextmanager
def initctl_fifo(path: str) -> Iterator[int]:
    """Make a FIFO for the block; yield its descriptor for reading, which sees no end. Raise ConfigError."""
    try:
        _remove_unused(path)
        os.mkfifo(path, 0o600)
        # Writers come and go; with an end for writing of its own, that is no end of the file.
        fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"{path!r} cannot be made: {error.strerror}", hint="name a path in a directory that can be written to"
        ) from error
    made = os.fstat(fifo)
    try:
        yield fifo
    finally:
        os.close(fifo)
        with suppress(OSError):
            if os.path.samestat(os.lstat(path), made):
                os.unlink(path)


def _remove_unused(path: str) -> None:
    """Remove a FIFO that nobody reads; raise OSError and ConfigError."""
    try:
        is_fifo = stat.S_ISFIFO(os.lstat(path).st_mode)
        reader = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC) if is_fifo else -1
    except FileNotFoundError:
        return
    except OSError:
        os.unlink(path)
        return
    if is_fifo:
        os.close(reader)
        raise ConfigError(f"{path!r} has a reader already", hint="the guest's init may serve it: then nothing is to do")
    raise ConfigError(f"{path!r} exists, and is no FIFO", hint="remove it, or name another --path")
