"""Say what a pivot will do, before anything is done."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bootc_live.base.units import mib
from bootc_live.formats.oci.manifest import Process
from bootc_live.image.verified import ResolvedImage
from bootc_live.landing.pivot.machine import Machine, Way
from bootc_live.landing.pivot.program import Wanted
from bootc_live.rootfs.plan import RootPlan

_MOST_NAMES = 12


@dataclass(frozen=True)
class PivotPlan:
    """What will be fetched, how it is kept, and what becomes of the system that runs."""

    image: ResolvedImage
    root: RootPlan
    machine: Machine
    way: Way
    wanted: Wanted
    keep_old_root: str | None

    def text(self) -> list[str]:
        """Return the plan as lines that begin with a label."""
        estimate = self.root.estimate
        lines = [
            f"image     {self.image.source_text}",
            f"digest    {self.image.identity}",
            f"fetch     {mib(estimate.size)}, {mib(estimate.unpacked)} unpacked",
            f"memory    {self.root.why}",
            f"program   {_program(self.image.config.process, self.wanted)}",
            f"way       {self._way()}",
        ]
        if self.way is Way.CONTAIN:
            return [*lines, "stays     everything: the root runs beside it, and is gone afterwards"]
        names = ", ".join(self.machine.services[:_MOST_NAMES])
        more = (
            f" and {len(self.machine.services) - _MOST_NAMES} more" if len(self.machine.services) > _MOST_NAMES else ""
        )
        return [
            *lines,
            f"ends      {len(self.machine.services)} services: {names}{more}",
            f"          {self.machine.processes} processes, {self.machine.sessions} sessions",
            f"stays     kernel {os.uname().release}, addresses and routes, what is mounted below /run",
            f"old root  {self.keep_old_root or 'let go; nothing is changed on disks'}",
            "back      reboot: the installed system starts again",
        ]

    def data(self) -> dict[str, object]:
        """Return the plan for JSON; sizes are bytes."""
        estimate, need = self.root.estimate, self.root.need
        return {
            "source": self.image.source_text,
            "manifest_digest": self.image.manifest_digest,
            "fetch": estimate.size,
            "unpacked": estimate.unpacked,
            "layout": str(self.root.option),
            "memory": {"needed": need.memory, "available": self.root.room.available},
            "way": str(self.way),
            "init": self.machine.init,
            "systemd": self.machine.systemd or None,
            "services": list(self.machine.services),
            "processes": self.machine.processes,
            "sessions": self.machine.sessions,
            "keep_old_root": self.keep_old_root,
        }

    def _way(self) -> str:
        if self.way is Way.CONTAIN:
            return "in namespaces of its own"
        return f"soft reboot of systemd {self.machine.systemd}"


def _program(process: Process, wanted: Wanted) -> str:
    entrypoint = process.entrypoint if wanted.entrypoint is None else (wanted.entrypoint,)
    arguments = wanted.arguments
    if arguments is None:
        arguments = process.cmd if wanted.entrypoint is None else ()
    return " ".join((*entrypoint, *arguments)) or "the init of the image"
