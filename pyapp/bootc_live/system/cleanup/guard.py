"""Do the work in a child process, and own from outside of it what would outlive it.

The child has a mount namespace of its own: whatever ends it, at any line, the kernel takes its mounts, loop devices and
files in RAM along. What is kept elsewhere (a directory on a disk, a zram device, a loaded kernel) is made by the parent
or known to it before it is made, and undone by the parent when the child has ended without having done so. The step
that makes a result visible is the parent's, too. So a signal to the parent has one meaning: before that step nothing is
left, after it all is there.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import itertools
import json
import os
import re
import select
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from bootc_live.base import errors
from bootc_live.base.errors import BootcLiveError
from bootc_live.system.system_call import system_call

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

_CLONE_NEWNS = 0x00020000
# White space and backslashes in proc_pid_mountinfo(5).
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_MS_PRIVATE = 0x40000
_MS_REC_PRIVATE = 0x4000 | _MS_PRIVATE
# The same number everywhere.
_PIDFD_GETFD = 438
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

# A function of a module, which the other process finds by its name.
Function = Callable[..., Any]


@dataclass
class Made:
    """What the parent made for this process; ``result`` is what making it gave."""

    result: Any
    number: int
    left: bool = False

    def keep(self) -> None:
        """Let it stay, as what this program was to make; from here on a signal is too late."""
        self.left = True
        _forget(self.number, kept=True)
        _done.set()

    def forget(self) -> None:
        """Take care of it no more: it is undone already, or must stay for others."""
        self.left = True
        _forget(self.number, kept=False)


@contextmanager
def made(make: Function, undo: Function, *arguments: Any) -> Iterator[Made]:
    """Have something made, and undone when the block ends or this process does, unless the block kept it.

    ``undo`` gets what ``make`` gave for the arguments. Both are functions of modules; all values are what JSON has.
    Raises what ``make`` raises of BootcLiveError and OSError.
    """
    number = next(_numbers)
    request = {"make": _name(make), "undo": _name(undo), "number": number, "arguments": arguments}
    found = Made(make(*arguments) if _parent is None else _parent.ask(request), number)
    try:
        yield found
    finally:
        if not found.left:
            undo(*([] if found.result is None else [found.result]))
            _forget(number, kept=False)


@contextmanager
def undone(undo: Function) -> Iterator[None]:
    """Call a function of a module when the block ends, or this process does, even before there is anything to undo."""
    with made(_nothing, undo):
        yield


def commit(function: Function, *arguments: Any, descriptors: Sequence[int] = ()) -> None:
    """Call a function where no signal breaks it off: it makes the result visible, and no one undoes that.

    It gets the descriptors, as its own, before the arguments, which are what JSON has. Raises what it raises of
    ``BootcLiveError`` and OSError.
    """
    if _parent is None:
        function(*map(os.dup, descriptors), *arguments)
    else:
        _parent.ask({"commit": _name(function), "arguments": arguments, "descriptors": descriptors})
    _done.set()


def guarded(work: Callable[[], int], *, last: bool = False) -> int:
    """Return the status of ``work``, which is done in a child; raises EndedError where a signal or a kill ended it.

    Where it is the ``last`` thing that this process does, signals that come later are too late for anything.
    """
    _done.clear()
    requests, answers = os.pipe(), os.pipe()
    with _Signals(signal.SIG_IGN if last else None) as signals:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        parent, child = os.getpid(), os.fork()
        if child == 0:
            os.close(requests[0])
            os.close(answers[1])
            _work(work, _Connection(answers[0], requests[1]), parent, signals)
        os.close(requests[1])
        os.close(answers[0])
        try:
            return _Parent(_Connection(requests[0], answers[1]), child, signals).wait()
        finally:
            os.close(requests[0])
            os.close(answers[1])


class EndedError(Exception):
    """The work was ended from outside, before it had a result; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        """Keep the signal."""
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Signals:
    """The signals that ask to end, as bytes of a pipe."""

    def __init__(self, afterwards: signal.Handlers | None) -> None:
        """Begin with none; ``afterwards`` None leaves them as they were."""
        self._afterwards = afterwards

    def __enter__(self) -> Self:
        self.read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # What is ignored stays so: nohup(1).
        wanted = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, lambda *_: None) for number in wanted}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.end(self._afterwards)

    def end(self, handler: signal.Handlers | None) -> None:
        """Take no more of them: give them a handler, or back the ones that they had."""
        for number, before in self._before.items():
            signal.signal(number, before if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.read)
        os.close(self._write)

    def came(self) -> int:
        """Return one that came."""
        return os.read(self.read, 1)[0]


def _work(work: Callable[[], int], connection: _Connection, parent: int, signals: _Signals) -> NoReturn:
    global _parent  # noqa: PLW0603
    code = 70
    try:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signals.end(signal.SIG_DFL)
        # It is in the background of its terminal, and may say something all the same.
        for number in (signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)
        _parent = connection
        code = work()
    finally:
        os._exit(code)


def own_mounts() -> None:
    """Give this process mounts of its own, which nobody else sees; without the right to that it will mount nothing.

    Raises OSError.
    """
    if _libc().unshare(_CLONE_NEWNS) != 0:
        return
    try:
        _make_private(b"/", _MS_REC_PRIVATE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The root directory is no mount point (chroot(2)).
        with open("/proc/self/mountinfo", "rb") as file:
            places = [_ESCAPED.sub(_unescaped, line.split(b" ")[4]) for line in file]
        for place in places:
            # What is mounted over is out of reach, also for whoever mounts something now.
            with suppress(OSError):
                _make_private(place, _MS_PRIVATE)


def _make_private(where: bytes, flags: int) -> None:
    _checked(_libc().mount(b"none", where, None, flags, None))


def _unescaped(character: re.Match[bytes]) -> bytes:
    return bytes([int(character[1], 8)])


def _prctl(option: int, value: int) -> None:
    _libc().prctl(option, value, 0, 0, 0)


class _Parent:
    """The other end: it owns, commits, waits."""

    def __init__(self, connection: _Connection, child: int, signals: _Signals) -> None:
        self._connection, self._child, self._signals = connection, child, signals
        self._owned: dict[int, tuple[str, Any]] = {}
        self._ended_by = 0

    def wait(self) -> int:
        """Serve the child until it ends; return its status."""
        # Whoever comes first.
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(self._child, self._child)
        while not self._ended_by:
            ready, _, _ = select.select([self._connection.read, self._signals.read], [], [])
            if self._signals.read in ready and not _done.is_set():
                self._ended_by = self._signals.came()
            elif self._signals.read in ready:
                self._signals.came()
            elif not self._serve():
                break
        if self._ended_by:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
        status = self._reap()
        for undo, result in reversed(self._owned.values()):
            with suppress(BootcLiveError, OSError):
                _function(undo)(*([] if result is None else [result]))
        if status >= 0 and not self._ended_by:
            return status
        if _done.is_set():
            return 0
        raise EndedError(self._ended_by or -status)

    def _reap(self) -> int:
        """Wait for the child and all programs that it left; return its status, as subprocess has it."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        # Those of its group that it started.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self._child, 0)
        return status

    def _serve(self) -> bool:
        """Answer one request; return False at the end."""
        request = self._connection.receive()
        if request is None:
            return False
        if "make" in request:
            answer = self._call(request["make"], request["arguments"])
            if "result" in answer:
                self._owned[request["number"]] = (request["undo"], answer["result"])
        elif "forget" in request:
            self._owned.pop(request["forget"])
            if request["kept"]:
                _done.set()
            answer = {"result": None}
        else:
            descriptors = [self._taken(number) for number in request["descriptors"]]
            answer = self._call(request["commit"], [*descriptors, *request["arguments"]])
            if "result" in answer:
                _done.set()
        # The child may have been killed meanwhile.
        with suppress(BrokenPipeError):
            self._connection.send(answer)
        return True

    def _taken(self, number: int) -> int:
        """Return a descriptor of the child's as one of ours (pidfd_getfd(2), Linux 5.6)."""
        handle = os.pidfd_open(self._child)
        try:
            return system_call(_PIDFD_GETFD, handle, number, 0)
        finally:
            os.close(handle)

    def _call(self, function: str, arguments: list[Any]) -> dict[str, Any]:
        try:
            return {"result": _function(function)(*arguments)}
        except BootcLiveError as error:
            return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except OSError as error:
            return {"errno": error.errno, "message": error.strerror, "name": error.filename}


@dataclass
class _Connection:
    """Lines of JSON by two pipes."""

    read: int
    write: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: dict[str, Any]) -> Any:
        """Return what came of a request; raises that."""
        with self.lock:
            self.send(request)
            answer = self.receive()
        if answer is None:
            raise EOFError("the parent has ended")
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"], hint=answer["hint"])
        if "errno" in answer:
            raise OSError(answer["errno"], answer["message"], answer["name"])
        return answer["result"]

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; raises BrokenPipeError."""
        left = memoryview(json.dumps(message).encode() + b"\n")
        while left:
            left = left[os.write(self.write, left) :]

    def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end."""
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self.read, 1 << 16)
            if not part:
                return None
            line += part
        message: dict[str, Any] = json.loads(line)
        return message


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _forget(number: int, *, kept: bool) -> None:
    if _parent is not None:
        _parent.ask({"forget": number, "kept": kept})


def _nothing() -> None:
    """Make nothing: whoever undoes it looks for what there is."""


def _name(function: Callable[..., object]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _function(name: str) -> Callable[..., object]:
    module, _, qualified = name.partition(":")
    found: Callable[..., object] = getattr(importlib.import_module(module), qualified)
    return found


_parent: _Connection | None = None
_numbers = itertools.count()
_done = threading.Event()
