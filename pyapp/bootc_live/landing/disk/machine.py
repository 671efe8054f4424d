"""A system on a disk: what is there, what runs, and what boots next."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import ConfigError, LandingError, RunError
from bootc_live.base.output import print_message
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.boot_partition.grub import Grub
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.keys import kept_signing
from bootc_live.landing.disk.root import mounted_device, mounted_disk
from bootc_live.landing.disk.running.booted import running_deployment
from bootc_live.landing.disk.settings import Settings, read_settings
from bootc_live.source.device import find_device
from bootc_live.system.devices.exclusive import is_claimed
from bootc_live.system.run import find_program, run

_NONE = "install one with: bootc-live install"


@dataclass(frozen=True)
class Machine:
    """A mounted disk and its boot partition, which is mounted at ``boot``; ``booted`` is None for another system's.

    ``root`` is the digest of the root on the kernel command line; empty for another system's.
    """

    disk: Deployments
    boot: str
    settings: Settings
    loader: BootLoader
    booted: int | None
    root: str = ""

    def entries(self) -> list[Entry]:
        """Return the boot entries, the one that is started next first; raise BootcLiveError."""
        return self.loader.entries(self.boot)

    def current(self) -> Deployment:
        """Return the deployment that runs, or of another system the one that boots next; raise LandingError."""
        if self.booted is not None:
            return self.disk.read(self.booted)
        default = self.loader.default(self.boot)
        if default is None:
            raise LandingError("nothing boots from this disk", hint=_NONE)
        return self.disk.read(default.name.deployment)


def check_boot_partition(boot: str, entries: list[Entry], settings: Settings) -> None:
    """Raise ConfigError if entries of a boot partition start another system than that with these settings.

    Their numbers are those of other deployments.
    """
    # A damaged one says nothing.
    if not all(_is_of(entry.cmdline, settings) for entry in entries if entry.cmdline):
        raise ConfigError(
            f"the boot partition {boot!r} has the boot entries of another installation",
            hint="use another boot partition, or remove that installation's entries from it",
        )


def _is_of(cmdline: str, settings: Settings) -> bool:
    named = [word.partition("=")[2] for word in cmdline.split() if word.startswith("bootc.disk.subvolume=")]
    return f"deployment:{settings.root}:" in cmdline and (named[-1] if named else None) == settings.subvolume


def repair_fat(device: str) -> None:
    """Repair what a power cut left in a boot partition, if that is not mounted and the system has fsck.fat(8)."""
    program = find_program("fsck.fat")
    if program is not None and not is_claimed(device):
        # It fails if there was something to repair, and for other file systems. What it cannot repair, mounting tells.
        with suppress(RunError):
            run([program, "-a", device])


def loader_of(settings: Settings, directory: str, signing: Signing | None = None) -> BootLoader:
    """Return the boot loader of a machine, which signs what it writes with a key.

    ``directory`` is for temporary files.
    """
    chain = settings.secure_boot and signing is None
    match settings.loader:
        case "grub":
            return Grub(chain)
        case "uki":
            return SystemdBootUki(signing=signing, scratch=directory)
        case _:
            return SystemdBoot(signing=signing, chain=chain)


@contextmanager
def this_machine(directory: str) -> Iterator[Machine]:
    """Mount the disk of the running system below ``directory`` while the block runs; nobody else changes it meanwhile.

    Raise LandingError, also for a system that does not run from a disk, and RunError.
    """
    with open("/proc/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        config = parse_cmdline(file.read())
    spec, number = config.deployment, running_deployment()
    if spec is None or number is None:
        raise LandingError(
            "this system does not run from a disk that bootc-live installed",
            hint="name the disk of another system with --disk and --boot",
        )
    places = [os.path.join(directory, name) for name in ("disk", "boot")]
    for place in places:
        os.mkdir(place, 0o700)
    with ExitStack() as stack:
        disk = stack.enter_context(mounted_disk(spec.device, places[0], config.disk_subvolume))
        stack.enter_context(locked(disk))
        disk.require_directories()
        settings = read_settings(disk)
        device = find_device(settings.boot)
        if device is None:
            raise LandingError(
                f"there is no {settings.boot}, which has this machine's boot loader", hint="connect that disk"
            )
        repair_fat(device)
        stack.enter_context(mounted_device(device, places[1], "check it with fsck, or use another deployment's entry"))
        loader = loader_of(settings, directory, kept_signing(disk))
        yield Machine(disk, places[1], settings, loader, number, spec.digest)


@contextmanager
def other_machine(mounted_at: str, boot: str | None, directory: str) -> Iterator[Machine]:
    """Yield the machine whose disk and boot partition are mounted at directories; raise BootcLiveError.

    ``directory`` is for temporary files.
    """
    disk = Deployments(os.path.abspath(mounted_at))
    if not os.path.isdir(disk.top):
        raise ConfigError(f"{mounted_at!r} has no installation", hint=_NONE)
    disk.require_directories()
    if boot is None or not os.path.isdir(boot):
        raise ConfigError(
            f"--disk {mounted_at!r} needs its boot partition" if boot is None else f"--boot {boot!r} is no directory",
            hint="name where it is mounted with --boot",
        )
    with locked(disk):
        settings = read_settings(disk)
        loader = loader_of(settings, directory, kept_signing(disk))
        machine = Machine(disk, os.path.abspath(boot), settings, loader, None)
        check_boot_partition(boot, machine.entries(), settings)
        yield machine


@contextmanager
def locked(disk: Deployments) -> Iterator[None]:
    """Keep others from changing the deployments of a disk for the block; wait for one that does already.

    A unit that judges a boot, or takes over /etc, must not fail because somebody looks at the deployments.
    """
    # The store has a lock of its own, which is not held as long.
    try:
        fd = os.open(disk.top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LandingError(f"{disk.top!r} cannot be used: {error.strerror}", hint=_NONE) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_message("waiting for another program that uses the deployments of this disk")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
