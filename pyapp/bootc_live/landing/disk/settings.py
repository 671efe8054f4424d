"""What an installation decided about a machine, for all deployments to come: one file on its disk."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from bootc_live.base.errors import ConfigError, LandingError, SourceError
from bootc_live.base.output import format_json
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import Token, redact_cmdline, split_cmdline
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

        Both can replace what makes a deployment that fails reboot, because the last one of an argument counts. Raise
        ConfigError if they would keep the initramfs from finding the deployment.
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
        # An image's open quote is closed, as for kexec.
        brought = [word + '"' * (word.count('"') % 2) for word in deployment.arguments]
        line = " ".join([*map(str, _REBOOT), *brought, *self.arguments, *map(str, own)])
        if split_cmdline(line)[-len(own) :] != own:
            raise ConfigError(
                f"a system would not find its root with the kernel arguments {redact_cmdline(line)!r}",
                hint="leave out quotes that are not closed, and a lone --",
            )
        parse_cmdline(line)
        return line


# Arguments are checked with it before there is a deployment.
_SAMPLE: Final = Deployment(1, "", "", "0" * 64, "", "", verity=True)


def check_arguments(option: str, arguments: Collection[str]) -> None:
    """Raise ConfigError for kernel arguments that no system of a machine could boot with; ``option`` gave them."""
    for text in arguments:
        shown = f"{option} {redact_cmdline(text)!r}"
        if not text.strip() or not text.isprintable():
            raise ConfigError(
                f"{shown} is no kernel argument", hint="write for example console=ttyS0, without control characters"
            )
        if _hides_from_systemd(text):
            raise ConfigError(
                f"{shown} has a single quote that is not closed, which would hide other arguments from systemd",
                hint="close it, or put double quotes around the value",
            )
        ours = [token.name for token in split_cmdline(text) if _is_written_here(token.name)]
        if ours:
            raise ConfigError(
                f"{shown} would replace the argument {ours[0]!r}, which each deployment has of its own",
                hint="leave it out; --state says what is kept over reboots",
            )
        try:
            Settings("", "UUID=0", "", "", arguments=(text,)).cmdline(_SAMPLE)
        except ConfigError as error:
            raise ConfigError(
                f"{shown} cannot be used: {error.message}", hint="close its quotes, leave out a lone --, or correct it"
            ) from error


def _hides_from_systemd(text: str) -> bool:
    """Return whether arguments leave a single quote open: to the kernel it is a letter, but not to systemd."""
    quote = ""
    for char in text:
        if char in ("'", '"') and quote in ("", char):
            quote = "" if quote else char
    return quote == "'"


def _is_written_here(name: str) -> bool:
    return name.lower() == "root" or name.lower().startswith(("bootc.disk.", "bootc.install"))


def read_settings(disk: Deployments) -> Settings:
    """Return the settings of a disk; raise LandingError."""
    try:
        with open(os.path.join(disk.top, _FILE), encoding="utf-8") as file:
            settings: Settings = _typed(Settings, json.load(file), "it")
        if settings.loader not in LOADERS:
            raise ValueError(f"there is no boot loader {settings.loader!r}")
        if settings.state not in set(DiskState):
            raise ValueError(f"there is no state {settings.state!r}")
        return settings
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise LandingError(
            f"the settings of this machine, {_FILE} on its disk, cannot be read: {error}", hint="install it again"
        ) from error


def _typed(kind: Any, value: object, name: str) -> Any:
    """Return what JSON says as a value of a type; raise ValueError if it is of another one, and TypeError.

    ``kind`` is a type of a field, or a dataclass, whose fields may be missing if they have a default.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _typed(inner[0], value, name)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(inner[0], each, name) for each in value)
    if origin is dict and isinstance(value, dict):
        return {key: _typed(inner[1], each, name) for key, each in value.items()}
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        kinds = get_type_hints(kind)
        given = {each.name: value[each.name] for each in fields(kind) if each.name in value}
        return kind(**{each: _typed(kinds[each], given[each], repr(each)) for each in given})
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise ValueError(f"{name} has another type than an installation writes")


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
