"""Slots: two partitions for roots. Each holds an EROFS image, with the hash tree of dm-verity behind it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bootc_live.base.errors import LandingError, RootfsError
from bootc_live.base.units import mib
from bootc_live.formats.verity import BLOCK, wrong_blocks
from bootc_live.image.verified import VerifiedImage
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.make import Stored
from bootc_live.landing.disk.root import find_slot
from bootc_live.rootfs.layouts.built import Finishing, cannot_hold
from bootc_live.rootfs.layouts.erofs.merged import write_merged
from bootc_live.rootfs.tree.merge import LayersRead, Warn, merge
from bootc_live.system.files import copy_part, forget_cached, no_space


@dataclass(frozen=True)
class Slot:
    """A slot that may be overwritten after ``clear``, which removes what boots from it.

    With ``root``, it gets a root with that root hash, or none.
    """

    partuuid: str
    device: str
    clear: Callable[[], None] = lambda: None
    root: str = ""


class WrongBlock(NamedTuple):
    """A block of a slot that does not fit the root hash, and what is wrong."""

    block: int
    problem: str


def store_in_slot(
    slot: Slot, directory: str, image: VerifiedImage, finishing: Finishing, read: LayersRead, warn: Warn
) -> Stored:
    """Write the root of an image to a slot: a ``Store``. It is complete in ``directory`` before the slot is touched.

    Raise RootfsError, also for an image that is too large, LandingError for a slot in use, and OSError.
    """
    root = merge(image, read, warn)
    finishing(root, image)
    source_text = image.resolved.source_text
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            tree = write_merged(root, image, file.fileno())
        except ValueError as error:
            raise cannot_hold(image, error) from error
        except OSError as error:
            if not no_space(error):
                raise
            raise RootfsError(
                f"the EROFS image of {source_text!r} does not fit beside its layers into {directory!r}",
                hint="name a directory on a disk with --workdir",
            ) from error
        if slot.root not in ("", tree.root_hash):
            raise RootfsError(
                f"{source_text!r} makes another root than the one that was in the slot",
                hint="use the version of bootc-live that wrote it, or add another deployment with bootc-live upgrade",
            )
        _overwrite(slot, file.fileno(), source_text)
    return Stored(tree.root_hash, slot=slot.partuuid, blocks=tree.blocks)


def leave_slot(
    deployment: Deployment, image: VerifiedImage, finishing: Finishing, read: LayersRead, warn: Warn
) -> Stored:
    """Only read the tree of an image whose root is in a slot: a ``Store``."""
    finishing(merge(image, read, warn), image)
    return Stored(deployment.root, slot=deployment.slot, blocks=deployment.blocks)


def _overwrite(slot: Slot, image: int, source_text: str) -> None:
    size = os.fstat(image).st_size
    try:
        # Nobody has it mounted then, nor a dm-verity device of it.
        device = os.open(slot.device, os.O_WRONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise LandingError(f"the slot {slot.device} is in use", hint="unmount it; 'lsblk' shows what has it") from error
    try:
        room = os.lseek(device, 0, os.SEEK_END)
        if size > room:
            raise RootfsError(
                f"{source_text!r} is too large: its root needs {mib(size)}, and a slot has {mib(room)}",
                hint="use a smaller image, or install anew with a larger --slot-size",
            )
        slot.clear()
        os.lseek(device, 0, os.SEEK_SET)
        copy_part(image, 0, size, device)
        os.fsync(device)
    finally:
        os.close(device)


def free_slot(machine: Machine) -> Slot:
    """Return the slot of a machine that neither runs nor is needed; raise LandingError if there is none."""
    current, default = machine.current(), machine.loader.default(machine.boot)
    good = {entry.name.deployment for entry in machine.entries() if entry.name.left is None}
    partuuid = next(slot for slot in machine.settings.slots if slot != current.slot)
    there = [each.number for each in machine.disk.all() if each.slot == partuuid]
    for number in there:
        if machine.disk.is_pinned(number):
            raise LandingError(
                f"deployment {number}, whose slot the next one needs, is pinned",
                hint=f"bootc-live pin --unpin {number}",
            )
        if number in good and current.number not in good:
            raise LandingError(
                f"deployment {number} is the only one known to be good, and the next one needs its slot",
                hint=f"call deployment {current.number} good with bootc-live health, if it is",
            )
        started = machine.disk.is_started(number)
        if number in good and started and default is not None and default.name.deployment == number:
            raise LandingError(
                f"deployment {number} boots next, and another one needs its slot", hint="restart, then upgrade"
            )
    return Slot(partuuid, find_slot(partuuid), partial(_remove, machine, there))


def _remove(machine: Machine, numbers: list[int]) -> None:
    """Remove deployments: boot entries first, because nothing must boot what is not whole."""
    for number in numbers:
        machine.loader.remove(machine.boot, number)
        machine.disk.remove(number)


def wrong_in_slot(deployment: Deployment) -> Iterator[WrongBlock]:
    """Read a slot, and yield the blocks that do not fit its root hash; raise LandingError and OSError."""
    fd = os.open(find_slot(deployment.slot), os.O_RDONLY | os.O_CLOEXEC)
    unreadable = set[int]()

    def read(number: int) -> bytes:
        try:
            return os.pread(fd, BLOCK, number * BLOCK)
        except OSError:
            unreadable.add(number)
            return b""

    try:
        forget_cached(fd)
        for number in wrong_blocks(read, deployment.blocks, deployment.root):
            yield WrongBlock(number, "cannot be read" if number in unreadable else "its content has changed")
    finally:
        os.close(fd)
