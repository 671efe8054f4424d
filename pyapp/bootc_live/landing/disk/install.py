"""Make a machine's first deployment, and all further ones: from a fetched image to an entry of the boot menu."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import ConfigError, LandingError, RunError
from bootc_live.base.log import Recorder
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition.interface import BootLoader, Esp, next_order
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from bootc_live.landing.disk.deployments import Deployment, Deployments, disk_errors
from bootc_live.landing.disk.machine import check_boot_partition, locked
from bootc_live.landing.disk.make import Deployed, ImageTree
from bootc_live.landing.disk.partitions.model import ESP_TYPE, XBOOTLDR_TYPE, FileSystem, Mounted
from bootc_live.landing.disk.settings import Settings, has_settings
from bootc_live.system.run import run

# The number of the inode that is the top of a subvolume of btrfs.
_SUBVOLUME = 256
# Where images have boot loaders.
_PROGRAMS = ("usr/lib/systemd/boot", "usr/lib/shim", "usr/lib/grub", "usr/lib/efi", "usr/lib/bootupd/updates")


def mounted_at(directory: str) -> Mounted:
    """Return the file system that is mounted at a directory; raise ConfigError and RunError."""
    hint = "mount a file system there, and name that directory"
    if not os.path.ismount(directory):
        raise ConfigError(f"{directory!r} is no mount point", hint=hint)
    argv = ["findmnt", "--json", "--nofsroot", "--output", "SOURCE,FSROOT,FSTYPE", "--target", directory]
    place = json.loads(run(argv, hint=hint))["filesystems"][-1]
    source, top, filesystem = (str(place[name]) for name in ("source", "fsroot", "fstype"))
    try:
        found = run(["blkid", "-p", "-o", "export", source], hint=hint)
        said = dict(line.split("=", 1) for line in found.splitlines())
        uuid = said["UUID"]
    except (RunError, KeyError) as error:
        raise ConfigError(
            f"what is mounted at {directory!r}, {source}, is no file system on a block device", hint=hint
        ) from error
    subvolume = None
    if filesystem == FileSystem.BTRFS and os.stat(directory).st_ino == _SUBVOLUME:
        subvolume = top
        if not top.isprintable() or set(top) & set(' ,"\\'):
            raise ConfigError(
                f"the subvolume {top!r} at {directory!r} cannot be named on a kernel command line",
                hint="give it a name without spaces, commas, quotes and backslashes",
            )
    elif top != "/":
        raise ConfigError(
            f"{directory!r} is the directory {top!r} of another file system, not the whole of one", hint=hint
        )
    kind, disk = (said.get(f"PART_ENTRY_{name}", "") for name in ("TYPE", "DISK"))
    return Mounted(os.path.abspath(directory), f"UUID={uuid}", filesystem, uuid, kind, disk, subvolume, source)


def check_boot_partitions(boot: Mounted, esp: Mounted | None) -> None:
    """Raise ConfigError for partitions of a boot loader of which firmware, or the boot loader, would not find one."""
    for one in (boot, *([] if esp is None else [esp])):
        if one.filesystem == FileSystem.BTRFS:
            raise ConfigError(
                f"{one.directory!r} has btrfs, which firmware does not read", hint="use a partition with FAT"
            )
    if esp is None:
        if boot.kind == XBOOTLDR_TYPE:
            raise ConfigError(
                f"{boot.directory!r} is an XBOOTLDR partition, from which firmware starts nothing",
                hint="name where the EFI system partition of that disk is mounted, too: --esp DIR",
            )
        return
    for one, option, what, kind in (
        (boot, "--boot", "XBOOTLDR", XBOOTLDR_TYPE),
        (esp, "--esp", "EFI system", ESP_TYPE),
    ):
        if one.kind != kind:
            raise ConfigError(
                f"{option} {one.directory!r} is not the mount point of an {what} partition",
                hint=f"name that, or give the partition the type {kind}",
            )
    if boot.disk != esp.disk:
        raise ConfigError(
            f"{boot.directory!r} and {esp.directory!r} are on two disks",
            hint="boot loaders look on their own disk only",
        )


@contextmanager
def prepared(disk: Deployments, boot: str, settings: Settings) -> Iterator[None]:
    """Make a disk ready for its first deployment, and keep others from changing it for the block.

    What an interrupted installation left is removed. Raise ConfigError if the disk has an installation, or another one
    has the boot partition, RootfsError and LandingError.
    """
    _checked_entries(disk, boot, settings)
    with disk_errors("the directories for deployments"):
        disk.make()
    with locked(disk):
        # Another installation may just have ended.
        entries = _checked_entries(disk, boot, settings)
        SystemdBootUki().discard_broken(boot)
        with disk_errors("the directories for deployments"):
            for deployment in disk.all():
                if all(entry.name.deployment != deployment.number for entry in entries):
                    disk.remove(deployment.number)
        yield


def check_new(disk: Deployments, name: str) -> None:
    """Raise ConfigError if a disk, called ``name``, has an installation."""
    if has_settings(disk):
        raise ConfigError(f"{name!r} has an installation", hint="upgrade it, or make a new file system there")


def _checked_entries(disk: Deployments, boot: str, settings: Settings) -> list[Entry]:
    """Return the entries of a boot partition for a new installation; raise as ``prepared``."""
    check_new(disk, os.path.dirname(disk.top))
    # All styles write entries that this one reads.
    entries = SystemdBootUki().entries(boot)
    check_boot_partition(boot, entries, settings)
    return entries


def install_loader(
    loader: BootLoader, tree: ImageTree, boot: str, scratch: str, *, esp: Esp | None = None, of_image: bool = False
) -> None:
    """Copy the image's boot loader to the boot partition, or to ``esp``, or that of this system; raise BootcLiveError.

    ``of_image`` accepts no other one.
    """
    for place in _PROGRAMS:
        target = os.path.join(scratch, place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        tree.write(place, target)
    try:
        loader.install(scratch, boot, esp)
    except LandingError:
        if of_image:
            raise
        # Raises the same error if this system has none either.
        loader.install("/", boot, esp)


def add_entry(loader: BootLoader, boot: str, deployed: Deployed, settings: Settings, tries: int | None) -> Entry:
    """Let a deployment boot next, and at most ``tries`` times before it is good; raise BootcLiveError."""
    deployment = deployed.deployment
    name = EntryName(next_order(loader, boot), deployment.number, tries)
    entry = Entry(name, title_of(deployment), settings.cmdline(deployment))
    return loader.add(boot, entry, deployed.kernel, deployed.initramfs)


def title_of(deployment: Deployment) -> str:
    """Return what a boot menu shows."""
    return f"{deployment.source}, {deployment.created} ({deployment.number})"


def say_unverified(deployed: Deployed, recorder: Recorder) -> None:
    """Warn if the kernel cannot check the files of a deployment."""
    if deployed.obstacle:
        recorder.warn(
            f"files on the disk are NOT checked when they are read: {deployed.obstacle}; names, owners and modes are"
        )
