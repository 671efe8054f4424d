"""What a verb that runs has mounted: the process that does its work has mounts of its own, which no one else sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def workers(pid: int) -> Iterator[int]:
    """Yield the processes that do the work of a verb, which was started as the process `pid`."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    yield from map(int, children.read_text().split() if children.exists() else ())


def workspaces(pid: int) -> Iterator[Path]:
    """Yield what lies in the workspaces of such a verb in RAM."""
    for worker in workers(pid):
        yield from Path(f"/proc/{worker}/root/run/bootc-live").glob("work.*/*")
