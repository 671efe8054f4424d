"""System calls that neither Python nor the C library has a function for."""

from __future__ import annotations

import ctypes
import os


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Return what a system call gives; raises OSError. Whole numbers are passed as the registers that they are."""
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(library.syscall(ctypes.c_long(number), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
