"""Check roots: all objects of a store with the metadata that refers to them, or the blocks of slots."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from bootc_live.base.errors import LandingError, RootfsError
from bootc_live.landing.disk.check.fault import AGAIN, REMOVE, Fault, on_disk
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.storage.slots import wrong_in_slot
from bootc_live.rootfs.layouts.composefs.check import (
    object_problem,
    referred_objects,
    remove_object,
    stored_objects,
)
from bootc_live.rootfs.layouts.composefs.metadata import object_path
from bootc_live.rootfs.layouts.composefs.store import OBJECTS, image_path
from bootc_live.system import fsverity

_RUNS = "boot another deployment; bootc-live fsck --repair fetches it again there"


def root_faults(machine: Machine) -> Iterator[Fault]:
    """Read all roots of a machine, and yield what is wrong; raise BootcLiveError and OSError."""
    deployments = machine.disk.all()
    for deployment in deployments:
        if deployment.slot:
            yield from _slot_faults(deployment, runs=deployment.number == machine.booted)
    yield from _store_faults(machine, [each for each in deployments if not each.slot])


def _slot_faults(deployment: Deployment, *, runs: bool) -> Iterator[Fault]:
    where, numbers = f"slot {deployment.slot}", (deployment.number,)
    try:
        wrong = list(wrong_in_slot(deployment))
    except LandingError as error:
        yield Fault(where, error.message, error.hint, numbers)
        return
    if wrong:
        many = f"; {len(wrong)} blocks are wrong" if len(wrong) > 1 else ""
        problem = f"block {wrong[0].block}: {wrong[0].problem}{many}"
        yield Fault(where, problem, _RUNS if runs else AGAIN, numbers, from_image=not runs)


def _store_faults(machine: Machine, deployments: list[Deployment]) -> Iterator[Fault]:
    store = machine.disk.top
    users = defaultdict[str, list[Deployment]](list)
    for deployment in deployments:
        try:
            for digest in referred_objects(store, deployment.root):
                users[digest].append(deployment)
        except RootfsError as error:
            where = on_disk(machine, image_path(store, deployment.root))
            problem = error.message.replace(repr(image_path(store, deployment.root)), "it")
            yield Fault(where, problem, AGAIN, (deployment.number,), from_image=True)
    found, strange = stored_objects(store)
    can_protect = _can_protect(machine)
    for digest in sorted(found | set(users)):
        needing = users.get(digest, [])
        protected = can_protect and any(each.verity for each in needing)
        problem = object_problem(store, digest, verity=protected)
        where = on_disk(machine, os.path.join(machine.disk.objects, object_path(digest)))
        if problem and needing:
            yield Fault(where, problem, AGAIN, tuple(each.number for each in needing), from_image=True)
        elif problem:
            yield Fault(where, f"{problem}; no deployment needs it", REMOVE, (), partial(remove_object, store, digest))
    for path in strange:
        yield Fault(on_disk(machine, path), "it is no object", f"look at it, and remove it from {OBJECTS}")


def _can_protect(machine: Machine) -> bool:
    with suppress(OSError):
        return not fsverity.obstacle(machine.disk.objects)
    return False
