"""Check everything on the disk of a machine: deployments and their roots, boot entries, kernels, what is left over."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from functools import partial

from bootc_live.base.errors import LandingError
from bootc_live.formats.boot_entry import Entry, EntryName, boot_order
from bootc_live.landing.disk.boot_partition.files import strange
from bootc_live.landing.disk.check.fault import AGAIN, REMOVE, Fault, on_boot, on_disk
from bootc_live.landing.disk.check.roots import root_faults
from bootc_live.landing.disk.deployments import Deployments
from bootc_live.landing.disk.keys import check_can_sign
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
    entries, damaged = machine.entries(), machine.loader.damaged(machine.boot)
    names = {entry.name for entry in entries}.union(machine.loader.broken(machine.boot))
    if not names:
        yield Fault("boot partition", "it has no boot entry, so that nothing boots", "install the machine again")
    known = {*machine.disk.damaged(), *(deployment.number for deployment in machine.disk.all())}
    for name in sorted(names, key=boot_order):
        if name.deployment not in known:
            problem = f"there is no deployment {name.deployment}, which it starts"
            remove = partial(machine.loader.remove, machine.boot, name.deployment)
            yield Fault(f"boot partition: {name}", problem, REMOVE, remedy=remove)
    hint = _without_key(machine)
    for name, problem in wrong_entries(machine, damaged).items():
        yield Fault(f"boot partition: {name}", problem, hint or AGAIN, (name.deployment,), from_image=not hint)
    for path in damaged:
        where, users = on_boot(machine, machine.boot + path), tuple(_users(entries, path))
        if os.path.isdir(machine.boot + path) or users:
            yield Fault(where, "it was changed", AGAIN if users else _NEXT, users, from_image=bool(users))
        else:
            tidy = partial(machine.loader.tidy, machine.boot)
            yield Fault(where, "it is damaged", "bootc-live fsck --repair writes it again", remedy=tidy)


def _users(entries: Sequence[Entry], path: str) -> Iterator[int]:
    return (entry.name.deployment for entry in entries if entry.kernel.startswith(f"{path}/"))


def wrong_entries(machine: Machine, damaged: Collection[str]) -> dict[EntryName, str]:
    """Return the boot entries of deployments that have to be written again, and why.

    Those whose kernels are ``damaged`` need these first. Raise BootcLiveError and OSError.
    """
    there = {deployment.number: deployment for deployment in machine.disk.all()}
    found = dict.fromkeys(machine.loader.broken(machine.boot), "it is damaged")
    for entry in machine.entries():
        deployment = there.get(entry.name.deployment)
        whole = not entry.kernel.startswith(tuple(f"{path}/" for path in damaged))
        if deployment and whole and str(machine.settings.root_argument(deployment)) not in entry.cmdline.split():
            found.setdefault(entry.name, f"it starts another root than deployment {deployment.number} is")
    return {name: why for name, why in found.items() if name.deployment in there}


def _without_key(machine: Machine) -> str:
    """Return what to do if this machine cannot sign boot entries that it has to sign; empty if it can."""
    try:
        check_can_sign(machine.disk, machine.settings)
    except LandingError as error:
        return error.hint or _ANEW
    return ""
