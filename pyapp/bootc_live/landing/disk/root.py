"""Mount a deployment as the root of this machine: image, /etc and /var, as the kernel command line says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from bootc_live import __version__
from bootc_live.base.errors import LandingError, RunError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config, DiskState
from bootc_live.config.source_spec import DeploymentRoot
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.protocol import Receipt
from bootc_live.rootfs.layouts.built import mounted_image
from bootc_live.rootfs.layouts.composefs.mount import mounted_root
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.rootfs.writable.overlays import covered, is_plain_directory, overlaid, ram_place, seeded
from bootc_live.source.device import find_device
from bootc_live.system.devices.verity import require_verity, verity_device
from bootc_live.system.mounts import mounted
from bootc_live.system.run import run

_LOG = "look at the kernel log (dmesg)"
_OTHER = "boot another deployment from the boot menu"
_BLOCK = 4096


@contextmanager
def mounted_disk(device: str, where: str, subvolume: str | None = None) -> Iterator[Deployments]:
    """Mount the file system with deployments at the directory ``where`` while the block runs; raise LandingError.

    ``subvolume`` is the one of btrfs that has them.
    """
    found = find_device(device)
    if found is None:
        raise LandingError(
            f"there is no block device {device}, which has the root",
            hint="check the disk, and that its driver is in the initramfs",
        )
    with mounted_device(found, where, _OTHER, *([] if subvolume is None else [f"subvol={subvolume}"])):
        yield Deployments(where)


@contextmanager
def mounted_device(device: str, where: str, hint: str, *more: str) -> Iterator[None]:
    """Mount a block device at a directory, with ``more`` options, for the block; raise LandingError with a hint."""
    with ExitStack() as stack:
        try:
            kind = run(["blkid", "-p", "-o", "value", "-s", "TYPE", device]).strip()
            # A file system without owners shows all files as those of root, to nobody else.
            options = ["rw", *(["umask=0077"] if kind == "vfat" else []), *more]
            stack.enter_context(mounted(kind, device, where, ",".join(options), hint=_LOG))
        except RunError as error:
            raise LandingError(f"cannot mount {device}: {error.message}", hint=hint) from error
        yield


def find_slot(partuuid: str) -> str:
    """Return the device of a slot; raise LandingError."""
    found = find_device(f"PARTUUID={partuuid}")
    if found is None:
        raise LandingError(f"there is no partition {partuuid}, a slot for roots", hint="check the disk")
    return found


@contextmanager
def mounted_deployment(
    disk: Deployments, deployment: Deployment, digest: str, where: str, *, verity: bool
) -> Iterator[None]:
    """Mount the root of a deployment read-only until the block ends; with ``verity``, the kernel checks what it reads.

    The record, which anybody with the disk can write, says what kind of root it is, and ``digest`` alone which one. No
    root is of the other kind with the same digest: one is the SHA-256 of 256 bytes, the other that of a whole block.
    Raise LandingError, RootfsError and RunError.
    """
    with ExitStack() as stack:
        if not deployment.slot:
            stack.enter_context(mounted_root(disk.top, digest, where, verity=verity))
        elif not verity:
            # Through a loop device: the partition may belong to the dm-verity device of the running system.
            stack.enter_context(mounted_image(find_slot(deployment.slot), _BLOCK, None, where))
        else:
            try:
                require_verity()
            except OSError as error:
                raise LandingError(
                    f"this kernel has no dm-verity ({error.strerror}), which roots in slots need",
                    hint="use a kernel with dm-verity, or add its module dm-verity to the initramfs",
                ) from error
            # A wrong number of blocks is a tree of another shape, so nothing fits the root hash.
            device = stack.enter_context(verity_device(find_slot(deployment.slot), deployment.blocks, digest))
            stack.enter_context(mounted("erofs", device, where, "ro", hint=_OTHER))
        yield


@contextmanager
def deployed_root(
    spec: DeploymentRoot, config: Config, directory: str, recorder: Recorder, *, starting: bool
) -> Iterator[tuple[MountedRoot, Deployment]]:
    """Mount a deployment below the empty ``directory``; all mounts end with the block.

    With ``starting``, it is started from then on: its /etc is its own.

    Raise LandingError, RootfsError and RunError: for an image that is not the one with the digest, too.
    """
    with ExitStack() as stack:
        with recorder.phase("mount", f"mounting deployment {spec.number}"):
            places = {name: os.path.join(directory, name) for name in ("disk", "root")}
            for place in places.values():
                os.mkdir(place, 0o700)
            disk = stack.enter_context(mounted_disk(spec.device, places["disk"], config.disk_subvolume))
            deployment = disk.read(spec.number)
            root = places["root"]
            # What a slot has is always checked: without that, its digest would mean nothing.
            verity = config.disk_verity or bool(deployment.slot)
            stack.enter_context(mounted_deployment(disk, deployment, spec.digest, root, verity=verity))
            _writable(stack, root, disk, spec.number, config, directory, recorder)
            if starting:
                # A disk with errors may be read-only: that is no reason not to boot.
                with suppress(OSError):
                    disk.start(spec.number)
        yield MountedRoot(root, deployment.source), deployment


def deployment_receipt(config: Config, spec: DeploymentRoot, deployment: Deployment, recorder: Recorder) -> Receipt:
    """Return the receipt of a boot from a disk as JSON-ready data."""
    return {
        "version": __version__,
        "image": {"reference": deployment.source, "manifest_digest": deployment.image},
        "source": spec.source_text,
        "policy": deployment.trust,
        "layout": "slot" if deployment.slot else "composefs",
        "deployment": {
            "number": deployment.number,
            "device": spec.device,
            "created": deployment.created,
            "root": spec.digest,
            "verity": config.disk_verity or bool(deployment.slot),
            "state": str(config.disk_state),
        },
        "phases": dict(recorder.phases),
        "warnings": list(recorder.warnings),
    }


def _writable(
    stack: ExitStack,
    root: str,
    disk: Deployments,
    number: int,
    config: Config,
    directory: str,
    recorder: Recorder,
) -> None:
    etc, var, parts = os.path.join(root, "etc"), os.path.join(root, "var"), config.parts

    def in_ram(name: str, size: int | None) -> str:
        place = os.path.join(directory, f"{name}-rw")
        os.mkdir(place, 0o700)
        return stack.enter_context(ram_place(parts, size, place, name))

    if is_plain_directory(etc, recorder, "/etc"):
        own = disk.etc(number)
        if not os.path.isdir(own):
            raise LandingError(f"deployment {number} has no /etc: it was not finished", hint=_OTHER)
        # Below an overlay, too: a disk that is mounted nowhere would not be made read-only at shutdown.
        stack.enter_context(covered(etc, own))
        if config.disk_state is DiskState.VOLATILE:
            stack.enter_context(overlaid(etc, etc, "", in_ram("etc", parts.etc_size)))
    if is_plain_directory(var, recorder, "/var"):
        if config.disk_state is DiskState.FULL:
            stack.enter_context(covered(var, disk.var))
        else:
            stack.enter_context(seeded(var, in_ram("var", parts.var_size), "bootc.live.var.size="))
