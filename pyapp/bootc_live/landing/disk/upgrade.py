"""What follows a first installation: the /etc of the next deployment, which deployment boots, and what can go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.boot_partition.interface import TRIES, entry_of, next_order
from bootc_live.landing.disk.deployments import Deployment, PassedOver
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.make import ImageTree
from bootc_live.landing.disk.merge_etc import merged_etc
from bootc_live.landing.disk.root import mounted_deployment
from bootc_live.rootfs.layouts.composefs.check import prune
from bootc_live.rootfs.layouts.composefs.layers import forget_layers
from bootc_live.system.files import exchange, sync_filesystem


class EtcMerge:
    """Makes the /etc of a new deployment: the new image's, with what was changed on this machine."""

    def __init__(self, machine: Machine, current: Deployment, directory: str, recorder: Recorder) -> None:
        """Merge with the /etc of ``current``; ``directory`` is for temporary files and mounts."""
        self._machine, self._current = machine, current
        self._directory, self._recorder = directory, recorder

    def __call__(self, tree: ImageTree, where: str) -> None:
        """Make the new directory ``where``; raise BootcLiveError and OSError."""
        new = os.path.join(self._directory, "new-etc")
        if not tree.write("etc", new):
            os.mkdir(new, 0o755)
        self.merge(new, where)

    def merge(self, new: str, where: str) -> None:
        """Do the same with the new image's /etc, which is at ``new``."""
        disk, current = self._machine.disk, self._current
        old = os.path.join(self._directory, "old-root")
        os.mkdir(old, 0o700)
        with ExitStack() as stack:
            stack.enter_context(mounted_deployment(disk, current, current.root, old, verity=False))
            before = os.path.join(old, "etc")
            made = stack.enter_context(merged_etc(before, new, disk.etc(current.number), where))
        for conflict in made.conflicts:
            kept = f"; the new one is {conflict.kept_as}" if conflict.kept_as else ""
            self._recorder.warn(f"/etc/{conflict.path}: {conflict.problem}; this machine's is used{kept}")
        for warning in made.warnings:
            self._recorder.warn(warning)


def finalize(machine: Machine, directory: str, recorder: Recorder) -> Deployment | None:
    """Merge /etc once more for a new deployment that boots next; return it, None if there is none.

    What was changed since the upgrade is not lost then. One that was started before keeps its own /etc. Raise
    BootcLiveError and OSError.
    """
    default = machine.loader.default(machine.boot)
    if default is None or machine.disk.is_started(default.name.deployment):
        return None
    following = machine.disk.read(default.name.deployment)
    etc = machine.disk.etc(following.number)
    root, made = os.path.join(directory, "new-root"), f"{etc}.new"
    os.mkdir(root, 0o700)
    machine.disk.tidy()
    with mounted_deployment(machine.disk, following, following.root, root, verity=False):
        EtcMerge(machine, machine.current(), directory, recorder).merge(os.path.join(root, "etc"), made)
    sync_filesystem(os.path.dirname(etc))
    exchange(made, etc)
    machine.disk.tidy()
    return following


def failed_images(machine: Machine) -> set[str]:
    """Return the digests of the images that the boot loader has given up; raise BootcLiveError."""
    given_up = {entry.name.deployment for entry in machine.entries() if entry.name.left == 0} - {machine.booted}
    return machine.disk.passed_over(PassedOver.FAILED) | {
        each.image for each in machine.disk.all() if each.number in given_up
    }


@contextmanager
def marking(recorder: Recorder) -> Iterator[None]:
    """Make a warning of an error of the block, which writes marks of images: what boots next is more important."""
    try:
        yield
    except OSError as error:
        recorder.warn(
            f"what upgrades pass over cannot be written to the disk: {error.strerror}; an upgrade may decide otherwise"
        )


def bless(machine: Machine, recorder: Recorder) -> Deployment:
    """Call the running deployment good, and return it; raise BootcLiveError and OSError."""
    current = machine.current()
    machine.loader.bless(machine.boot, current.number)
    with marking(recorder):
        machine.disk.accept(PassedOver.FAILED, current.image)
    return current


def rollback(machine: Machine, number: int | None, recorder: Recorder) -> Entry:
    """Let another deployment boot next, counted again unless it is known to be good; raise LandingError, OSError.

    Upgrades pass over the image that booted next until now, or a timer would undo this.
    """
    entries = machine.entries()
    order = list(dict.fromkeys(entry.name.deployment for entry in entries))
    if number is None:
        failed = {entry.name.deployment for entry in entries if entry.name.left == 0}
        number = next((other for other in order[1:] if other not in failed), None)
        if number is None:
            raise LandingError(
                "there is no other deployment to go back to that has not failed",
                hint="bootc-live status lists them; name one with --to",
            )
    chosen = machine.disk.read(number)
    entry = entry_of(entries, number)
    if number != order[0] or entry.name.left == 0:
        left = {each.image for each in machine.disk.all() if each.number == order[0]} - {chosen.image}
        tries = None if entry.name.left is None else TRIES
        entry = machine.loader.promote(machine.boot, number, next_order(machine.loader, machine.boot), tries)
        for image in left:
            with marking(recorder):
                machine.disk.pass_over(PassedOver.LEFT, image)
    with marking(recorder):
        machine.disk.accept(PassedOver.LEFT, chosen.image)
    return entry


def remove_unfinished(machine: Machine) -> None:
    """Remove deployments that an interrupted upgrade gave no boot entry, or an empty one.

    Raise BootcLiveError and OSError.
    """
    bootable = [entry.name.deployment for entry in machine.entries()]
    for number in (deployment.number for deployment in machine.disk.all()):
        # Without any entry, this may be the wrong boot partition.
        unfinished = bootable and number > max(bootable)
        if unfinished and number != machine.booted and not machine.disk.is_own(number):
            machine.loader.remove(machine.boot, number)
            machine.disk.remove(number)
    machine.disk.tidy()


def prune_deployments(machine: Machine, keep: int) -> list[int]:
    """Remove all but the ``keep`` newest deployments, and objects that nothing uses; return what was removed.

    The running one, the one that boots next, the one before that, the newest that is good, and those that are pinned
    stay. Those whose record says nothing go, too, unless they are pinned. Raise BootcLiveError and OSError.
    """
    remove_unfinished(machine)
    failed = failed_images(machine)
    entries = machine.entries()
    # What the boot loader would start, and what if that fails.
    order = list(dict.fromkeys(entry.name.deployment for entry in entries))
    good = [entry.name.deployment for entry in entries if entry.name.left is None]
    protected = {*order[:2], *good[:1], machine.current().number}
    deployments = machine.disk.all()
    newest = {deployment.number for deployment in deployments[-keep:]} if keep else set()
    damaged = machine.disk.damaged()
    removed = [number for number in damaged if machine.disk.is_lost(number) and not machine.disk.is_pinned(number)]
    for number in removed:
        machine.loader.remove(machine.boot, number)
        machine.disk.remove(number)
    for deployment in deployments:
        number = deployment.number
        if number in protected or number in newest or machine.disk.is_pinned(number):
            continue
        if deployment.image in failed:
            machine.disk.pass_over(PassedOver.FAILED, deployment.image)
        # The boot entry first: nothing must boot what is not whole.
        machine.loader.remove(machine.boot, number)
        machine.disk.remove(number)
        removed.append(number)
    if not all(map(machine.disk.is_lost, machine.disk.damaged())):
        # Nobody knows which files those need whose record cannot be read now.
        return removed
    left = machine.disk.all()
    prune(machine.disk.top, {deployment.root for deployment in left if not deployment.slot})
    forget_layers(machine.disk.top, {layer for deployment in left for layer in deployment.layers})
    return removed
