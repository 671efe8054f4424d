"""Check everything on the disk of a machine: deployments and their roots, boot entries, kernels, what is left over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from bootc_live.formats.boot_entry import PREFIX, Entry, EntryName
from bootc_live.landing.disk.boot_partition.files import strange
from bootc_live.landing.disk.check.fault import AGAIN, REMOVE, Fault, on_boot, on_disk
from bootc_live.landing.disk.check.roots import root_faults
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.settings import unfinished_settings
from bootc_live.rootfs.layouts.composefs.check import unfinished
from bootc_live.system.cleanup.directories import remove_path

_LEFT = "an interrupted run has left it"
_STRANGE = "it is nothing that bootc-live has made"
_LOOK = "look at it, and move it away"
_ANEW = "add another deployment with bootc-live upgrade, or install the machine again"
_NEXT = "boot another deployment; bootc-live upgrade adds one"


def machine_faults(machine: Machine) -> list[Fault]:
    """Return everything that is wrong, leftovers first; raise BootcLiveError and OSError."""
    return [*_leftovers(machine), *_deployment_faults(machine), *_boot_faults(machine), *root_faults(machine)]


def _leftovers(machine: Machine) -> Iterator[Fault]:
    disk = machine.disk
    for path in [*disk.leftovers(), *unfinished_settings(disk), *unfinished(disk.top)]:
        yield Fault(on_disk(machine, path), _LEFT, REMOVE, remedy=partial(remove_path, path))
    for path in disk.strange():
        yield Fault(on_disk(machine, path), _STRANGE, _LOOK)
    for path in strange(machine.boot):
        yield Fault(on_boot(machine, path), _STRANGE, _LOOK)
    # Without any entry, kernels are all that is left of them.
    for path in machine.loader.leftovers(machine.boot) if machine.entries() else []:
        # All at once, in an order that is safe on FAT.
        yield Fault(on_boot(machine, path), _LEFT, REMOVE, remedy=partial(machine.loader.tidy, machine.boot))


def _deployment_faults(machine: Machine) -> Iterator[Fault]:
    disk = machine.disk
    bootable = {entry.name.deployment for entry in machine.entries()}
    with_entry = bootable | {name.deployment for name in machine.loader.broken(machine.boot)}
    readable = bool(disk.all())
    for number in disk.damaged():
        yield Fault(
            f"deployment {number}",
            "its record is damaged, so that it cannot boot",
            _of_record(disk, number, readable=readable),
        )
    for deployment in disk.all():
        number = deployment.number
        if not os.path.isdir(disk.etc(number)):
            yield Fault(f"deployment {number}", "it has no /etc, so that it cannot boot", _NEXT)
        # Without any entry, this may be the wrong boot partition.
        if number not in with_entry and with_entry:
            newest = number > max(bootable, default=0)
            keep = number == machine.booted or disk.is_pinned(number) or (newest and disk.is_started(number))
            yield Fault(
                f"deployment {number}",
                "it has no boot entry",
                _ANEW if keep else REMOVE,
                remedy=None if keep else partial(disk.remove, number),
            )
    if not os.path.isdir(disk.var):
        yield Fault("/var", "it is missing, so that nothing boots", "make the directory, or bootc-live upgrade")


def _of_record(disk: Deployments, number: int, *, readable: bool) -> str:
    """Return what to do about a damaged record: there may be no other copy of this machine's /etc."""
    if not disk.is_lost(number):
        return "it cannot be read; look at the kernel log (dmesg)"
    if not readable:
        return "keep what you need of its /etc, and install the machine again"
    unpin = f"bootc-live pin --unpin {number} and " if disk.is_pinned(number) else ""
    return f"keep what you need of its /etc; {unpin}bootc-live prune removes it"


def _boot_faults(machine: Machine) -> Iterator[Fault]:
    entries = machine.entries()
    if not entries:
        yield Fault("boot partition", "it has no boot entry, so that nothing boots", "install the machine again")
    there = {deployment.number: deployment for deployment in machine.disk.all()}
    damaged = machine.loader.damaged(machine.boot)
    for entry in entries:
        yield from _entry_faults(machine, entry, there.get(entry.name.deployment), damaged)
    for name in machine.loader.broken(machine.boot):
        yield from _broken_entry(machine, name, there.get(name.deployment))
    for path in damaged:
        users = tuple(entry.name.deployment for entry in entries if _uses(entry, path))
        kernel = any(entry.kernel.startswith(f"{path}/") for entry in entries)
        hint = AGAIN if kernel else _NEXT
        yield Fault(on_boot(machine, machine.boot + path), "it was changed", hint, users, from_image=kernel)


def _broken_entry(machine: Machine, name: EntryName, deployment: Deployment | None) -> Iterator[Fault]:
    where, number = f"boot partition: {name}", name.deployment
    if deployment is not None:
        again = machine.settings.loader != "uki"
        yield Fault(where, "it is damaged and starts nothing", AGAIN if again else _ANEW, (number,), from_image=again)
    elif number not in machine.disk.damaged():
        remove = partial(machine.loader.remove, machine.boot, number)
        yield Fault(where, f"it starts nothing, and there is no deployment {number}", REMOVE, remedy=remove)


def _uses(entry: Entry, path: str) -> bool:
    snippet = path.rpartition("/")[2].removesuffix(".cfg")
    return entry.kernel.startswith(f"{path}/") or entry.path == path or entry.name.identity == f"{PREFIX}-{snippet}"


def _entry_faults(machine: Machine, entry: Entry, deployment: Deployment | None, damaged: list[str]) -> Iterator[Fault]:
    where, number = on_boot(machine, machine.boot + entry.path), entry.name.deployment
    if deployment is None:
        if number not in machine.disk.damaged():
            remove = partial(machine.loader.remove, machine.boot, number)
            yield Fault(where, f"there is no deployment {number}, which it starts", REMOVE, remedy=remove)
    elif entry.path not in damaged and str(machine.settings.root_argument(deployment)) not in entry.cmdline.split():
        yield Fault(where, f"it starts another root than deployment {number} is", _NEXT, (number,))
