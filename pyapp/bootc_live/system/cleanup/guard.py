"""Run the work in a child process, and clean up in the parent.

The child has its own mount namespace, so its mounts, loop devices and files in RAM are gone when it ends, whatever the
reason. Other resources (a directory on a disk, a zram or dm-verity device, a loaded kernel) are made by the parent, or
registered there before they are made, and the parent removes those that the child has not removed. The parent also
executes the step that makes a result visible. So a signal before that step leaves nothing behind, and a signal after it
is ignored.
"""

from __future__ import annotations

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
from functools import partial
from typing import Any, NoReturn, Self

from bootc_live.base import errors
from bootc_live.base.errors import BootcLiveError
from bootc_live.base.signals import signal_name
from bootc_live.system import descriptors as passing
from bootc_live.system.files import write_all
from bootc_live.system.system_call import libc_call

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# With these, managers of containers ask the first process, whose default is to ignore all signals, to power off.
STOPPING_SIGNALS = (*ENDING_SIGNALS, signal.SIGPWR, signal.SIGRTMIN + 3)

_CLONE_NEWNS = 0x00020000
# How proc_pid_mountinfo(5) writes white space and backslashes.
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_MS_PRIVATE = 0x40000
_MS_REC_PRIVATE = 0x4000 | _MS_PRIVATE
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

# A function at the top level of a module: the other process finds it by name.
Function = Callable[..., Any]


@dataclass
class Owned:
    """A resource that the parent owns; ``result`` is what ``make`` returned."""

    result: Any
    number: int
    released: bool = False

    def keep(self) -> None:
        """Keep it as the result of the program; from now on signals are ignored."""
        self.released = True
        _forget(self.number, kept=True)
        _done.set()

    def forget(self) -> None:
        """Release it: it is already removed, or others still use it."""
        self.released = True
        _forget(self.number, kept=False)


@contextmanager
def owned(make: Function, undo: Function, *arguments: Any) -> Iterator[Owned]:
    """Make a resource, and undo it when the block or this process ends, unless the block keeps or releases it.

    Calls ``undo`` with the result of ``make(*arguments)``. Both are top-level functions, and all values can be written
    as JSON. Raises BootcLiveError and OSError of ``make``.
    """
    number = next(_numbers)
    request = {"make": name_of(make), "undo": name_of(undo), "number": number, "arguments": arguments}
    resource = Owned(make(*arguments) if _parent is None else _parent.ask(request), number)
    try:
        yield resource
    finally:
        if not resource.released:
            undo(*([] if resource.result is None else [resource.result]))
            _forget(number, kept=False)


@contextmanager
def undo_at_end(undo: Function) -> Iterator[None]:
    """Call a top-level function when the block or this process ends."""
    with owned(_nothing, undo):
        yield


def call_in_parent(function: Function, *arguments: Any, descriptors: Sequence[int] = ()) -> Any:
    """Call a top-level function in the parent, or here if there is none, and return its result.

    Its arguments are duplicates of the descriptors, which it has to close, and values that can be written as JSON.
    Raises its BootcLiveError and OSError.
    """
    if _parent is None:
        return function(*map(os.dup, descriptors), *arguments)
    return _parent.ask({"call": name_of(function), "arguments": arguments, "last": False}, descriptors)


def commit(function: Function, *arguments: Any, descriptors: Sequence[int] = ()) -> Any:
    """Do the same with a function that makes the result visible; from its success on, no signal ends the program."""
    if _parent is None:
        result = call_in_parent(function, *arguments, descriptors=descriptors)
    else:
        name = name_of(function)
        result = _parent.ask({"call": name, "arguments": arguments, "last": True}, descriptors)
    _done.set()
    return result


def succeed_with(function: Function, *arguments: Any, descriptors: Sequence[int] = ()) -> None:
    """Let the parent call a top-level function when this process has ended with 0, and return what that returns.

    Its arguments are as those of ``call_in_parent``. Signals that end a program raise EndedError in it.
    """
    assert _parent is not None, "a child"
    _parent.ask({"successor": name_of(function), "arguments": arguments}, descriptors)


def run_in_child(work: Callable[[], int], *, last: bool = False) -> int:
    """Run ``work`` in a child and return its status; raises EndedError if a signal ended it.

    ``last`` means that this process exits afterwards, so it ignores later signals. Raises what a function of
    ``succeed_with`` raises.
    """
    _done.clear()
    ours, theirs = passing.socket_pair()
    with Signals(signal.SIG_IGN if last else None) as signals:
        libc_call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        parent, child = os.getpid(), os.fork()
        if child == 0:
            os.close(ours)
            _work(work, _Connection(theirs), parent, signals)
        os.close(theirs)
        serving = _Parent(_Connection(ours), child, signals)
        try:
            status = serving.wait()
        finally:
            os.close(ours)
    if status != 0 or serving.successor is None:
        return status
    for number in STOPPING_SIGNALS:
        signal.signal(number, _end)
    return int(serving.successor())


def _end(number: int, _: object) -> NoReturn:
    raise EndedError(number)


class EndedError(Exception):
    """The signal ``number`` ended the work before it had a result."""

    def __init__(self, number: int) -> None:
        """Set the signal."""
        super().__init__(signal_name(number))
        self.number = number


class Signals:
    """Reads signals that end the program from a pipe."""

    def __init__(self, afterwards: signal.Handlers | None) -> None:
        """Prepare; at the end ``afterwards`` becomes the handler, None restores the previous ones."""
        self._afterwards = afterwards

    def __enter__(self) -> Self:
        self.read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        # Ignored signals stay ignored: nohup(1).
        wanted = [number for number in STOPPING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, lambda *_: None) for number in wanted}
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.end(self._afterwards)

    def end(self, handler: signal.Handlers | None) -> None:
        """Stop reading; set a handler, None restores the previous ones."""
        for number, before in self._before.items():
            signal.signal(number, before if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.read)
        os.close(self._write)

    def receive(self) -> int:
        """Return a received signal."""
        return os.read(self.read, 1)[0]


def _work(work: Callable[[], int], connection: _Connection, parent: int, signals: Signals) -> NoReturn:
    global _parent  # noqa: PLW0603
    code = 70
    try:
        os.setpgid(0, 0)
        libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        signals.end(signal.SIG_DFL)
        # It is a background process of its terminal, and must still be able to print.
        for number in (signal.SIGTTOU, signal.SIGTTIN):
            signal.signal(number, signal.SIG_IGN)
        _parent = connection
        code = work()
    finally:
        os._exit(code)


def unshare_mounts() -> None:
    """Put this process into a mount namespace of its own; do nothing without the privilege. Raises OSError."""
    try:
        libc_call("unshare", _CLONE_NEWNS)
    except OSError:
        return
    try:
        _make_private(b"/", _MS_REC_PRIVATE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # The root directory is not a mount point, as after chroot(2).
        with open("/proc/self/mountinfo", "rb") as file:
            places = [unescaped(line.split(b" ")[4]) for line in file]
        for place in places:
            # A mount that another one covers cannot be reached, and nothing can be mounted on it.
            with suppress(OSError):
                _make_private(place, _MS_PRIVATE)


def _make_private(where: bytes, flags: int) -> None:
    libc_call("mount", b"none", where, None, flags, None)


def unescaped(field: bytes) -> bytes:
    """Return what a field of proc_pid_mountinfo(5) means."""
    return _ESCAPED.sub(lambda character: bytes([int(character[1], 8)]), field)


class _Parent:
    """The parent: serves requests of the child and cleans up after it."""

    def __init__(self, connection: _Connection, child: int, signals: Signals) -> None:
        self._connection, self._child, self._signals = connection, child, signals
        self._owned: dict[int, tuple[str, Any]] = {}
        self._ended_by = 0
        self.successor: Callable[[], Any] | None = None

    def wait(self) -> int:
        """Serve the child until it ends; return its status."""
        # The child does the same; whichever runs first.
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(self._child, self._child)
        channel = self._connection.channel
        while not self._ended_by:
            ready, _, _ = select.select([channel, self._signals.read], [], [])
            if self._signals.read in ready and not _done.is_set():
                self._ended_by = self._signals.receive()
            elif self._signals.read in ready:
                self._signals.receive()
            elif not self._serve():
                break
        if self._ended_by:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
        status = self._reap()
        for undo, result in reversed(self._owned.values()):
            with suppress(BootcLiveError, OSError):
                function_named(undo)(*([] if result is None else [result]))
        if status >= 0 and not self._ended_by:
            return status
        if _done.is_set():
            return 0
        raise EndedError(self._ended_by or -status)

    def _reap(self) -> int:
        """Kill the remaining processes of the child; return its status in the form of subprocess."""
        status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-self._child, 0)
        return status

    def _serve(self) -> bool:
        """Answer one request; return False if the child has ended."""
        request, descriptors = self._connection.receive()
        if request is None:
            return False
        if len(descriptors) != request["descriptors"]:
            for descriptor in descriptors:
                os.close(descriptor)
            answer = {"errno": errno.EMFILE, "message": os.strerror(errno.EMFILE), "name": None}
        elif "successor" in request:
            self.successor = partial(function_named(request["successor"]), *descriptors, *request["arguments"])
            answer = {"result": None}
        elif "make" in request:
            answer = self._call(request["make"], request["arguments"])
            if "result" in answer:
                self._owned[request["number"]] = (request["undo"], answer["result"])
        elif "forget" in request:
            self._owned.pop(request["forget"])
            if request["kept"]:
                _done.set()
            answer = {"result": None}
        else:
            answer = self._call(request["call"], request["arguments"], descriptors)
            if "result" in answer and request["last"]:
                _done.set()
        # The child may have been killed in the meantime.
        with suppress(ConnectionError):
            self._connection.send(answer)
        return True

    def _call(self, function: str, arguments: list[Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        try:
            return {"result": function_named(function)(*descriptors, *arguments)}
        except BootcLiveError as error:
            return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except OSError as error:
            return {"errno": error.errno, "message": error.strerror, "name": error.filename}


@dataclass
class _Connection:
    """Messages as lines of JSON over a socket, with duplicates of descriptors.

    Taking them from the child by pidfd_getfd(2) would need the right to trace it, which containers withhold.
    """

    channel: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> Any:
        """Send a request; return its result or raise its error."""
        with self.lock:
            self.send({**request, "descriptors": len(descriptors)}, descriptors)
            answer, _ = self.receive()
        if answer is None:
            raise EOFError("the parent has ended")
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"], hint=answer["hint"])
        if "errno" in answer:
            raise OSError(answer["errno"], answer["message"], answer["name"])
        return answer["result"]

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises ConnectionError."""
        line = json.dumps(message).encode() + b"\n"
        sent = passing.send(self.channel, line, descriptors) if descriptors else 0
        write_all(self.channel, line[sent:])

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Return the next message and its descriptors; the message is None at the end."""
        line, descriptors = b"", list[int]()
        while not line.endswith(b"\n"):
            try:
                part, found = passing.receive(self.channel)
            except ConnectionError:
                # The other side ended before it read everything.
                return None, []
            if not part:
                return None, []
            descriptors += found
            line += part
        return json.loads(line), descriptors


def _forget(number: int, *, kept: bool) -> None:
    if _parent is not None:
        _parent.ask({"forget": number, "kept": kept})


def _nothing() -> None:
    """Make nothing: the undo function checks by itself what exists."""


def name_of(function: Callable[..., object]) -> str:
    """Return the name by which another process finds a top-level function."""
    return f"{function.__module__}:{function.__qualname__}"


def function_named(name: str) -> Callable[..., Any]:
    """Return the function with a name of ``name_of``."""
    module, _, qualified = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), qualified)
    return found


_parent: _Connection | None = None
_numbers = itertools.count()
_done = threading.Event()
