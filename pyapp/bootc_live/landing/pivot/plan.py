"""Say what a pivot will do, before anything is done."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bootc_live.base.units import mib
from bootc_live.formats.oci.manifest import Process
from bootc_live.image.verified import ResolvedImage
from bootc_live.landing.pivot.first.settings import OnExit
from bootc_live.landing.pivot.machine import Machine, Way
from bootc_live.landing.pivot.program import INIT_NAMES, ProgramWish
from bootc_live.rootfs.plan import RootPlan

_MOST_NAMES = 12
_AT_END = {
    OnExit.REBOOT: "the machine restarts: the installed system starts again",
    OnExit.POWEROFF: "the machine powers off",
    OnExit.SHELL: "a shell starts on the console, and after it the machine restarts",
    OnExit.RETURN: "the machine restarts, as the old root is not kept: the installed system starts again",
}


@dataclass(frozen=True)
class PivotPlan:
    """What will be fetched, how it is kept, and what becomes of the system that runs."""

    image: ResolvedImage
    root: RootPlan | None
    machine: Machine
    way: Way
    wish: ProgramWish
    keep_old_root: str | None
    on_exit: OnExit | None = None
    flush_firewall: bool = False

    def text(self) -> list[str]:
        """Return the plan as lines that begin with a label."""
        lines = [
            f"image     {self.image.source_text}",
            f"digest    {self.image.identity}",
            *self._sizes(),
            f"way       {self._way()}",
        ]
        if self.way is Way.CONTAIN:
            return [*lines, "stays     everything: the root runs beside it, and is gone afterwards"]
        return [
            *lines,
            *self._ends(),
            *self._stays(),
            "back      reboot: the installed system starts again",
        ]

    def data(self) -> dict[str, object]:
        """Return the plan for JSON; sizes are bytes."""
        root, sizes = self.root, dict[str, object]()
        if root is not None:
            sizes = {"unpacked": root.estimate.unpacked, "layout": str(root.option)}
            sizes["memory"] = {"needed": root.need.memory, "available": root.room.available}
        return {
            "source": self.image.source_text,
            "manifest_digest": self.image.manifest_digest,
            "fetch": self.image.compressed_size,
            **sizes,
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
        if self.way is Way.KEXEC:
            return f"systemd {self.machine.systemd} stops everything, and the image's own kernel starts"
        if self.way is Way.TAKEOVER:
            return f"takeover of {self.machine.init}, the first process"
        return f"soft reboot of systemd {self.machine.systemd}"

    def _sizes(self) -> list[str]:
        if self.root is None:
            return [f"fetch     {mib(self.image.compressed_size)}"]
        estimate = self.root.estimate
        return [
            f"fetch     {mib(estimate.size)}, {mib(estimate.unpacked)} unpacked",
            f"memory    {self.root.why}",
            f"program   {_program(self.image.config.process, self.wish)}",
            *self._afterwards(),
        ]

    def _afterwards(self) -> list[str]:
        """Return what follows the end of a program that seems to be no init; the root will show what it is."""
        words = _words(self.image.config.process, self.wish)
        if self.way is Way.CONTAIN or not words or os.path.basename(words[0]) in INIT_NAMES:
            return []
        on_exit = self.on_exit or OnExit.REBOOT
        if on_exit is OnExit.RETURN and self.keep_old_root:
            return ["at its end the init of the old root starts again"]
        return [f"at its end {_AT_END[on_exit]}"]

    def _ends(self) -> list[str]:
        machine = self.machine
        if not machine.systemd:
            # Who is logged in, and what a service is, only systemd tells.
            return [f"ends      {machine.processes} processes"]
        names = ", ".join(machine.services[:_MOST_NAMES])
        more = len(machine.services) - _MOST_NAMES
        return [
            f"ends      {len(machine.services)} services: {names}{f' and {more} more' if more > 0 else ''}",
            f"          {machine.processes} processes, {machine.sessions} sessions",
        ]

    def _stays(self) -> list[str]:
        if self.way is Way.KEXEC:
            return ["stays     nothing: it is a boot, without the firmware; disks are not changed"]
        run = ", what is mounted below /run" if self.way is Way.SOFT_REBOOT else ""
        rules = "" if self.flush_firewall else ", rules of the firewall"
        return [
            *(["firewall  all rules are removed"] if self.flush_firewall else []),
            f"stays     kernel {os.uname().release}, addresses and routes{rules}{run}",
            f"old root  {self.keep_old_root or 'let go; nothing is changed on disks'}",
        ]


def _words(process: Process, wish: ProgramWish) -> tuple[str, ...]:
    entrypoint = process.entrypoint if wish.entrypoint is None else (wish.entrypoint,)
    arguments = wish.arguments
    if arguments is None:
        arguments = process.cmd if wish.entrypoint is None else ()
    return (*entrypoint, *arguments)


def _program(process: Process, wish: ProgramWish) -> str:
    return " ".join(_words(process, wish)) or "the init of the image"
