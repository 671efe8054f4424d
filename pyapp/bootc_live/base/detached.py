"""File systems that are mounted at no place, for a look at them (fsopen(2), fsmount(2)): nothing is left to unmount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.system_call import system_call

# The same numbers everywhere.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_RDONLY = 1


def require_kind(kind: str) -> None:
    """Raise OSError where the kernel has no file system of that kind; its module is loaded."""
    os.close(system_call(_FSOPEN, kind.encode(), _CLOEXEC))


@contextmanager
def detached(kind: str, device: str) -> Iterator[int]:
    """Mount a block device read-only while the block runs; give a descriptor of its top directory. Raise OSError."""
    context = system_call(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        system_call(_FSCONFIG, context, _SET_FLAG, b"ro", None, 0)
        system_call(_FSCONFIG, context, _SET_STRING, b"source", os.fsencode(device), 0)
        system_call(_FSCONFIG, context, _CREATE, None, None, 0)
        top = system_call(_FSMOUNT, context, _CLOEXEC, _RDONLY)
    finally:
        os.close(context)
    try:
        yield top
    finally:
        os.close(top)
