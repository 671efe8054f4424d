"""What an installation decided about a machine, for all deployments to come: one file on its disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields

from bootc_live.base.errors import LandingError, SourceError
from bootc_live.base.output import format_json
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.tokens import Token
from bootc_live.config.host.trust import TrustFiles
from bootc_live.config.model import DiskState
from bootc_live.config.source_spec import ROOT_PREFIX, SourceSpec, parse_source
from bootc_live.landing.disk.deployments import Deployment, Deployments, disk_errors
from bootc_live.source.pointer import archive_of
from bootc_live.system.files import exchange, sync_filesystem

LOADERS = ("systemd-boot", "uki", "grub")
_FILE, _SETTINGS = "machine.json", "the machine's settings"
# What does not start has to reboot: only the boot loader counts tries. Initramfs, kernel and systemd would wait for a
# person instead.
_REBOOT = (
    Token("rd.shell", "0"),
    Token("rd.emergency", "reboot"),
    Token("panic", "10"),
    Token("systemd.crash_reboot", None),
)


@dataclass(frozen=True)
class Settings:
    """The settings of a machine.

    ``source`` is where newer images come from, with its secrets, ``label`` which image of an archive, and ``unsecure``
    allows plain HTTP. ``root`` is the device of the file system with the deployments, ``boot`` that of the partition
    that the boot loader reads, as ``UUID=…`` or ``PARTUUID=…``. ``state`` is what is kept over reboots, ``arguments``
    are kernel arguments of this machine, and ``trust`` is what newer images must be signed with. ``slots`` are the
    PARTUUIDs of the partitions for roots; without them, roots are made of objects. ``secure_boot`` refuses what
    firmware with Secure Boot would not start. ``subvolume`` is the one of btrfs that has the deployments, None for
    other file systems, and for the one that is mounted by default.
    """

    source: str
    root: str
    boot: str
    loader: str
    label: str | None = None
    unsecure: bool = False
    state: str = DiskState.FULL
    arguments: tuple[str, ...] = ()
    trust: TrustFiles = field(default_factory=TrustFiles)
    slots: tuple[str, ...] = ()
    secure_boot: bool = False
    subvolume: str | None = None

    @property
    def source_text(self) -> str:
        """The source without secrets, to be shown."""
        return redact_value(self.source)

    @property
    def needs_signed_kernel(self) -> bool:
        """Whether the kernel of an image has to be signed: UKIs are signed here, as a whole."""
        return self.secure_boot and self.loader != "uki"

    def source_of(self, deployment: Deployment) -> SourceSpec:
        """Return where the image of a deployment came from; raise SourceError."""
        # The record of a deployment has no secrets.
        text = self.source if deployment.source == self.source_text else deployment.source
        try:
            return archive_of(parse_source(text), deployment.image)
        except ValueError as error:
            raise SourceError(
                f"deployment {deployment.number} came from {deployment.source!r}, which names nothing on this machine",
                hint="bootc-live switch to a source that this machine can reach",
            ) from error

    def root_argument(self, deployment: Deployment) -> Token:
        """Return the kernel argument that names a deployment."""
        return Token("root", f"{ROOT_PREFIX}deployment:{self.root}:{deployment.number}@{deployment.root}")

    def cmdline(self, deployment: Deployment) -> str:
        """Return the kernel command line of a deployment: the image's arguments, then this machine's.

        Both can replace what makes a deployment that fails reboot, because the last one of an argument counts.
        """
        own = [self.root_argument(deployment)]
        if deployment.slot:
            # systemd-gpt-auto-generator finds the disk of such a root, and would have it remounted for writing.
            own.append(Token("ro", None))
        if self.subvolume is not None:
            own.append(Token("bootc.disk.subvolume", self.subvolume))
        if self.state != DiskState.FULL:
            own.append(Token("bootc.disk.state", self.state))
        if not deployment.verity:
            own.append(Token("bootc.disk.verity", "0"))
        return " ".join([*map(str, _REBOOT), *deployment.arguments, *self.arguments, *map(str, own)])


def read_settings(disk: Deployments) -> Settings:
    """Return the settings of a disk; raise LandingError."""
    try:
        with open(os.path.join(disk.top, _FILE), encoding="utf-8") as file:
            data = json.load(file)
        known = {each.name: data[each.name] for each in fields(Settings) if each.name in data}
        known |= {name: tuple(map(str, data.get(name, ()))) for name in ("arguments", "slots")}
        trust = data.get("trust", {})
        known["trust"] = TrustFiles(trust.get("policy"), tuple(trust.get("keys", ())), trust.get("files", {}))
        settings = Settings(**known)
        if settings.loader not in LOADERS:
            raise ValueError(f"there is no boot loader {settings.loader!r}")
        return settings
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LandingError(
            f"the settings of this machine, {_FILE} on its disk, cannot be read: {error}", hint="install it again"
        ) from error


def has_settings(disk: Deployments) -> bool:
    """Return whether an installation on a disk was finished."""
    return os.path.lexists(os.path.join(disk.top, _FILE))


def unfinished_settings(disk: Deployments) -> list[str]:
    """Return the paths of what a power cut has left of new settings."""
    path = os.path.join(disk.top, f"{_FILE}.new")
    return [path] if os.path.lexists(path) else []


@contextmanager
def new_settings(disk: Deployments, settings: Settings) -> Iterator[None]:
    """Write the settings of a disk, which come into force with the end of the block; raise RootfsError.

    Before the block, all is done that needs space.
    """
    path = _write_new(disk, settings)
    try:
        yield
        with disk_errors(_SETTINGS):
            os.rename(f"{path}.new", path)
            sync_filesystem(disk.top)
    finally:
        _remove_new(path)


@contextmanager
def changed_settings(disk: Deployments, settings: Settings) -> Iterator[None]:
    """Replace the settings of a disk for the block and from then on; if it fails, the old ones are back.

    A power cut in the block leaves the new ones. Raise RootfsError and LandingError.
    """
    if read_settings(disk) == settings:
        _remove_new(os.path.join(disk.top, _FILE))
        yield
        return
    path = _write_new(disk, settings)
    try:
        with disk_errors(_SETTINGS):
            exchange(f"{path}.new", path)
        try:
            yield
        except BaseException:
            # If that fails as well, it is as after a power cut.
            with suppress(OSError):
                exchange(f"{path}.new", path)
            raise
    finally:
        _remove_new(path)


def _write_new(disk: Deployments, settings: Settings) -> str:
    """Write settings beside those of a disk, and return the path of these."""
    path = os.path.join(disk.top, _FILE)
    with disk_errors(_SETTINGS):
        # Of a run that a power cut ended.
        _remove_new(path)
        # The source may have a password.
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(f"{format_json(asdict(settings))}\n")
            sync_filesystem(disk.top)
        except BaseException:
            _remove_new(path)
            raise
    return path


def _remove_new(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(f"{path}.new")
