"""Make room for one more deployment before anything is fetched: on the disk, and on the boot partition."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.image.candidate import Candidate
from bootc_live.image.size.estimate import LayerEstimate, estimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.image.verified import ResolvedImage
from bootc_live.landing.disk.boot_partition.files import space_for_files
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.upgrade import prune_deployments

_HINT = "unpin a deployment (bootc-live pin --unpin N) or remove other files, and try again"


@dataclass(frozen=True)
class _Need:
    """What an upgrade adds to the file system at a path, in bytes: as far as is known before, and at least."""

    where: str
    path: str
    expected: int
    least: int

    @property
    def free(self) -> int:
        usage = os.statvfs(self.path)
        return usage.f_bavail * usage.f_frsize


def make_room(machine: Machine, directory: str, recorder: Recorder, found: Candidate) -> None:
    """Remove the oldest deployments that may go until an image fits; ``directory`` gets its layers.

    Raise RootfsError if it cannot fit even so. What is only unlikely to fit is a warning: files that are on the disk
    already take no space, and nobody knows before which these are.
    """
    for keep in reversed(range(len(machine.disk.all()))):
        if all(need.expected <= need.free for need in _needs(machine, directory, found)):
            return
        removed = prune_deployments(machine, keep)
        if removed:
            recorder.say(f"deployments removed to make room: {', '.join(map(str, removed))}")
    source_text = found.image.source_text
    for need in _needs(machine, directory, found, _bytes_of(machine.disk.objects)):
        free, least, expected = map(mib, (need.free, need.least, need.expected))
        if need.least > need.free:
            raise RootfsError(f"{need.where} has {free} free, but {source_text!r} needs {least} there", hint=_HINT)
        if need.expected > need.free:
            recorder.warn(f"{need.where} has {free} free; {source_text!r} needs up to {expected} there")


def _needs(machine: Machine, directory: str, found: Candidate, shared: int = 0) -> tuple[_Need, ...]:
    """Return what an image needs; at best, it has ``shared`` bytes of its files in common with what is there."""
    # Slots have their own check, and what boots from the free one goes before.
    if machine.settings.slots:
        return ()
    disk = machine.disk
    layers = estimate(found.source, found.image, found.cache).layers
    new = [layer for layer in layers if layer.basis is not Basis.CACHE]
    expected, least = _unpacked(new)
    diff_ids = zip(dict.fromkeys(found.image.config.diff_ids), layers, strict=True)
    copied = [layer for diff_id, layer in diff_ids if found.cache is None or not found.cache.is_known(diff_id)]
    beside = _unpacked(copied) if os.stat(directory).st_dev == os.stat(disk.top).st_dev else (0, 0)
    boot = _boot_files(machine, found.image)
    return (
        _Need("the disk", disk.top, expected + beside[0], max(0, least - shared) + beside[1]),
        _Need(f"the boot partition {machine.boot!r}", machine.boot, boot, boot),
    )


def _unpacked(layers: Sequence[LayerEstimate]) -> tuple[int, int]:
    """Return the size of layers, as far as known, and at least."""
    return sum(layer.unpacked for layer in layers), sum(layer.least for layer in layers)


def _boot_files(machine: Machine, image: ResolvedImage) -> int:
    """Return how much kernel and initramfs of an image will need, if they are as large as those of now."""
    current = machine.current()
    # Other entries use the same files then, but each unified kernel image has a command line of its own.
    same = bool(current.boot_layers) and set(current.boot_layers) <= set(image.config.diff_ids)
    if same and machine.settings.loader != "uki":
        return 0
    entry = next((entry for entry in machine.entries() if entry.name.deployment == current.number), None)
    paths = [machine.boot + path for path in (entry.kernel, entry.initrd) if path] if entry else []
    return space_for_files(machine.boot, *map(os.path.getsize, filter(os.path.isfile, paths)))


def _bytes_of(objects: str) -> int:
    """Return the size of all objects of a store."""
    total = 0
    for prefix in os.listdir(objects):
        with os.scandir(os.path.join(objects, prefix)) as entries:
            total += sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    return total
