"""Runs a command that cannot load another kernel: guests may power themselves off, which takes the same capability."""

import ctypes
import os
import struct
import sys
from typing import Final

_CALLS: Final = (246, 320)
"""kexec_load and kexec_file_load of x86-64."""
_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_EPERM, _ALLOW = 0x00050001, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main(argv: list[str]) -> None:
    """Become the command ``argv``."""
    instruction = struct.Struct("=HBBI").pack
    code = [
        instruction(_LOAD, 0, 0, 0),
        instruction(_JUMP_IF_EQUAL, 1, 0, _CALLS[0]),
        instruction(_JUMP_IF_EQUAL, 0, 1, _CALLS[1]),
        instruction(_RETURN, 0, 0, _EPERM),
        instruction(_RETURN, 0, 0, _ALLOW),
    ]
    program = _Program(len(code), b"".join(code))
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        sys.exit(f"cannot set a filter of system calls: {os.strerror(ctypes.get_errno())}")
    os.execvp(argv[0], argv)  # noqa: S606 # that is what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
