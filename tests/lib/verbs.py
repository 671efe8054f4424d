"""Verbs that run apart, in mount namespaces of their own: what they make is listed in there, and gone afterwards."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lib.program import Ended
from tests.lib.tree_list import Line, tree_list

REPO: Final = Path(__file__).resolve().parents[2]
_CLONE_NEWNS: Final = 0x00020000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18


@dataclass(frozen=True)
class Result:
    """How a verb ended, while its mount namespace still lived: what it said, the tree it made, what it left."""

    status: int
    output: str
    tree: list[Line]
    mounts: list[str]
    processes: list[str]


def the_error(result: Result, source_text: str | Path) -> str:
    """The one error message of a verb that failed as it should; it names `source_text`, and nothing is left mounted."""
    message = Ended(result.status, "", result.output).error(source_text)
    assert not result.mounts, result.mounts
    assert not result.processes, result.processes
    return message


def go_apart(hidden: Sequence[str]) -> list[str]:
    """Give this process a mount namespace in which the programs `hidden` cannot be found; return its mounts."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    for program in hidden:
        failed = failed or libc.mount(b"/dev/null", program.encode(), None, _MS_BIND, None)
    if failed:
        raise OSError(ctypes.get_errno(), "no mount namespace; run these tests as root")
    return _mounts()


def look_around(status: int, tree: str, before: Sequence[str]) -> dict[str, Any]:
    """Return the fields of `Result` but for the output, seen from the process that ran the verb."""
    return {
        "status": status,
        "tree": [line.fields() for line in tree_list(tree)] if status == 0 else [],
        "mounts": [mount for mount in _mounts() if mount not in before],
        "processes": _processes(os.getsid(0)),
    }


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(f"{line.split(' - ')[1].split()[1]} on {line.split()[4]}" for line in lines)


def _processes(session: int) -> list[str]:
    """The other processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                status = (entry / "stat").read_text()
                if int(status.rpartition(")")[2].split()[3]) == session:
                    found.append(status.partition(" (")[2].partition(")")[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
