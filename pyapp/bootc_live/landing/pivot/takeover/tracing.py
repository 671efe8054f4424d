"""Stop the first process by ptrace(2), and let it make system calls, whatever program it is; x86_64 only."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import signal
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.takeover.processes import HINT
from bootc_live.system.system_call import libc_call

MACHINE = "x86_64"
# As ptrace(2) and linux/ptrace.h have them.
_CONT, _DETACH, _SYSCALL, _GETREGSET, _SETREGSET = 7, 17, 24, 0x4204, 0x4205
_SEIZE, _INTERRUPT, _GETSIGMASK, _SETSIGMASK = 0x4206, 0x4207, 0x420A, 0x420B
_OPTIONS, _EXECUTED, _PRSTATUS = 0x11, 4, 1
_WALL, _IN_CALL = 0x40000000, signal.SIGTRAP | 0x80
# struct user_regs_struct: how many words, and where they are.
_WORDS, _RESULT, _NUMBER, _NO_RESTART, _COUNTER = 27, 10, 10, 15, 16
_ARGUMENTS = (14, 13, 12, 7, 9, 8)
_INSTRUCTION = b"\x0f\x05"
# Numbers of system calls.
_WRITE, _MMAP, _MUNMAP, _SIGACTION, _EXECVE, _FCHDIR = 1, 9, 11, 13, 59, 81
_OPENAT, _DUP3, _CLOSE_RANGE = 257, 292, 436
_ON_EXEC, _AT_FDCWD, _ALL_BITS, _LAST = 4, -100, (1 << 64) - 1, (1 << 32) - 1
_ROOM = 1 << 16
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MAPPED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r.x. (?!.*\[vsyscall\])")


@dataclass
class FirstProcess:
    """A stopped first process; it goes on after ``let_go``, in a new program after ``become``, or when this one ends.

    ``registers`` and ``mask`` are those that it had; ``entry`` is where it has the instruction for a system call.
    """

    memory: int
    entry: int
    ignored: tuple[int, ...]
    registers: bytes = field(default_factory=lambda: _registers().raw)
    mask: bytes = field(default_factory=lambda: _mask(_GETSIGMASK, bytes(8)))
    room: int = 0
    free: int = 0

    @classmethod
    def stop(cls) -> Self:
        """Stop it, and get some memory in it; raise LandingError, after which it goes on as before."""
        try:
            _ptrace(_SEIZE, data=_OPTIONS)
        except OSError as error:
            raise _untraceable(error) from error
        try:
            _ptrace(_INTERRUPT)
            _wait(_CONT)
            memory = os.open("/proc/1/mem", os.O_RDWR | os.O_CLOEXEC)
            stopped = cls(memory, _find_instruction(memory), _ignored_signals())
        except OSError as error:
            with suppress(OSError):
                _ptrace(_DETACH)
            raise _untraceable(error) from error
        try:
            # A handler must not run in the middle of a call that is not the program's own.
            _mask(_SETSIGMASK, b"\xff" * 8)
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            stopped.room = stopped.free = stopped.call(_MMAP, 0, _ROOM, _READ_WRITE, flags, -1)
        except OSError as error:
            stopped.let_go()
            raise _untraceable(error) from error
        return stopped

    def let_go(self) -> None:
        """Let it go on where it was stopped; raise OSError."""
        if self.room:
            self.call(_MUNMAP, self.room, _ROOM)
        # Only at a stop of this kind does the kernel repeat a call that the first stop has interrupted.
        _ptrace(_INTERRUPT)
        _ptrace(_CONT)
        _wait(_CONT)
        _transfer(_SETREGSET, ctypes.create_string_buffer(self.registers, len(self.registers)))
        _mask(_SETSIGMASK, self.mask)
        self.detach()

    def detach(self) -> None:
        """Let it go on in the program that it runs now; raise OSError."""
        _ptrace(_DETACH)
        os.close(self.memory)

    def call(self, number: int, *arguments: int) -> int:
        """Let it make a system call, and return the result; raise OSError."""
        self._begin(number, arguments)
        (result,) = struct.unpack_from("q", _registers().raw, 8 * _RESULT)
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)

    def stop_watchdog(self, descriptor: int) -> None:
        """Let it close a watchdog as its drivers want it, so that nobody has to feed it any more; raise OSError."""
        self.call(_WRITE, descriptor, self._put(b"V"), 1)

    def become(self, path: str, argv: Iterable[str], environment: Mapping[str, str]) -> None:
        """Let it run a program as the kernel runs an init: console, no other descriptors, no ignored signals.

        It is stopped before the first instruction. Raise OSError.
        """
        self._open_console()
        top = self.call(_OPENAT, _AT_FDCWD, self._put(b"/\0"), os.O_PATH)
        with suppress(OSError):
            # Since Linux 5.11.
            self.call(_CLOSE_RANGE, 3, _LAST, _ON_EXEC)
        default = self._put(bytes(32))
        for number in self.ignored:
            self.call(_SIGACTION, number, default, 0, 8)
        self.call(_FCHDIR, top)
        words = self._put_strings(argv), self._put_strings(f"{name}={text}" for name, text in environment.items())
        if not self._begin(_EXECVE, (self._put(os.fsencode(path) + b"\0"), *words)):
            (result,) = struct.unpack_from("q", _registers().raw, 8 * _RESULT)
            raise OSError(-result, os.strerror(-result), path)
        _mask(_SETSIGMASK, bytes(8))

    def _open_console(self) -> None:
        with suppress(OSError):
            console = self.call(_OPENAT, _AT_FDCWD, self._put(b"/dev/console\0"), os.O_RDWR | os.O_NOCTTY)
            for number in {0, 1, 2} - {console}:
                self.call(_DUP3, console, number, 0)

    def _begin(self, number: int, arguments: Iterable[int]) -> bool:
        """Let it make a system call; return whether it runs another program after it."""
        words = list(struct.unpack(f"{_WORDS}Q", self.registers))
        for place, value in zip(_ARGUMENTS, (*arguments, 0, 0, 0, 0, 0, 0), strict=False):
            words[place] = value & _ALL_BITS
        words[_NUMBER], words[_COUNTER], words[_NO_RESTART] = number, self.entry, _ALL_BITS
        packed = struct.pack(f"{_WORDS}Q", *words)
        _transfer(_SETREGSET, ctypes.create_string_buffer(packed, len(packed)))
        for _ in ("enters", "leaves"):
            _ptrace(_SYSCALL)
            if _wait(_SYSCALL) == _EXECUTED:
                return True
        return False

    def _put(self, data: bytes) -> int:
        """Put data into its memory; return the address."""
        address, self.free = self.free, self.free + (len(data) + 15 & ~15)
        if self.free > self.room + _ROOM:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        os.pwrite(self.memory, data, address)
        return address

    def _put_strings(self, texts: Iterable[str]) -> int:
        addresses = [self._put(os.fsencode(text) + b"\0") for text in texts]
        return self._put(struct.pack(f"{len(addresses) + 1}Q", *addresses, 0))


def _untraceable(error: OSError) -> LandingError:
    return LandingError(f"the first process cannot be traced: {error.strerror}", hint=HINT)


def _ptrace(request: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> None:
    libc_call("ptrace", request, 1, address, data)


def _wait(resume: int) -> int:
    """Wait until it stops, at an event or a system call; return the event, 0 for a call. Signals reach it."""
    while True:
        _, status = os.waitpid(1, _WALL)
        if not os.WIFSTOPPED(status):
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        number = os.WSTOPSIG(status)
        if status >> 16 or number == _IN_CALL:
            return status >> 16
        _ptrace(resume, data=number)


def _transfer(request: int, registers: ctypes.Array[ctypes.c_char]) -> None:
    """Read or write the registers, by a struct iovec."""
    vector = struct.pack("QQ", ctypes.addressof(registers), len(registers))
    _ptrace(request, _PRSTATUS, ctypes.create_string_buffer(vector, len(vector)))


def _registers() -> ctypes.Array[ctypes.c_char]:
    buffer = ctypes.create_string_buffer(8 * _WORDS)
    _transfer(_GETREGSET, buffer)
    return buffer


def _mask(request: int, mask: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(mask, 8)
    _ptrace(request, 8, buffer)
    return buffer.raw


def _ignored_signals() -> tuple[int, ...]:
    with open("/proc/1/status", encoding="utf-8", errors="replace") as file:
        return signals_in(next(line.split()[1] for line in file if line.startswith("SigIgn:")))


def signals_in(mask: str) -> tuple[int, ...]:
    """Return the numbers of the signals in a mask of proc_pid_status(5)."""
    bits = int(mask, 16)
    return tuple(number for number in range(1, 65) if bits >> number - 1 & 1)


def _find_instruction(memory: int) -> int:
    with open("/proc/1/maps", encoding="utf-8", errors="surrogateescape") as file:
        areas = code_areas(file)
    for start, end in areas:
        with suppress(OSError):
            found = os.pread(memory, end - start, start).find(_INSTRUCTION)
            if found >= 0:
                return start + found
    raise OSError(errno.ENOEXEC, "it has no instruction for system calls")


def code_areas(maps: Iterable[str]) -> list[tuple[int, int]]:
    """Return where the code is that proc_pid_maps(5) lists; the page that only seems to be code is left out."""
    return [(int(found[1], 16), int(found[2], 16)) for line in maps if (found := _MAPPED.match(line))]
