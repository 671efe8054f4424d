"""System calls that Python has no function for."""

from __future__ import annotations

import ctypes
import os

# Bytes and arrays are passed by address.
Argument = int | bytes | ctypes.Array[ctypes.c_char] | None


def system_call(number: int, *arguments: Argument) -> int:
    """Make a system call by number and return its result; raises OSError."""
    return _call("syscall", ctypes.c_long, (number, *arguments))


def libc_call(name: str, *arguments: Argument) -> int:
    """Call a function of the C library that returns an int and sets errno; raises OSError."""
    return _call(name, ctypes.c_int, arguments)


def _call(name: str, kind: type[ctypes.c_long | ctypes.c_int], arguments: tuple[Argument, ...]) -> int:
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = kind
    # As wide as a register, for variadic functions.
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(function(*words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
