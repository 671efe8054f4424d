"""One thing that is wrong on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from bootc_live.landing.disk.machine import Machine

AGAIN = "bootc-live fsck --repair fetches it again"
REMOVE = "bootc-live fsck --repair removes it"


@dataclass(frozen=True)
class Fault:
    """What is wrong where, and what a person can do about it.

    ``deployments`` are those that it damages. ``remedy`` repairs it without a source; ``from_image`` tells that the
    images of these deployments do.
    """

    where: str
    problem: str
    hint: str
    deployments: tuple[int, ...] = ()
    remedy: Callable[[], object] | None = field(default=None, compare=False)
    from_image: bool = False

    def __str__(self) -> str:
        """Return one line about it, without the hint."""
        numbers = ", ".join(map(str, self.deployments))
        return f"{self.where}: {self.problem}" + (f" (deployment {numbers})" if numbers else "")


def on_disk(machine: Machine, path: str) -> str:
    """Return a path as the file system with the deployments has it, wherever that is mounted."""
    return f"/{os.path.relpath(path, os.path.dirname(machine.disk.top))}"


def on_boot(machine: Machine, path: str) -> str:
    """Return a path as the boot partition has it."""
    return f"boot partition: /{os.path.relpath(path, machine.boot)}"
