"""The configuration of a guest, as stages use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_PATH = "/mnt/init.yml"
DEFAULT_ROOT = "/mnt/root"
DEFAULT_INIT = ("/sbin/init",)


class RootMode(StrEnum):
    """How the guest gets to its root."""

    PIVOT = "pivot"
    """By pivot_root(2): the container's own root is gone."""
    CHROOT = "chroot"
    """By chroot(2): the mounts of the container stay, out of sight."""
    NONE = "none"
    """Not at all: the guest's init runs in the container's own root."""


class SetupMode(StrEnum):
    """For which platform namespaces, /dev, /proc and /sys are made."""

    AUTO = "auto"
    """That which the variable container names; without it, as for no platform."""
    NONE = "none"
    """None of these is made: hooks do it."""
    LXC_LIBVIRT = "lxc-libvirt"
    NSPAWN = "nspawn"
    LXC = "lxc"
    PODMAN = "podman"


@dataclass(frozen=True)
class IdRange:
    """IDs from ``inside`` on in the guest are those from ``outside`` on in the container; ``size`` of them."""

    inside: int
    outside: int
    size: int = 1


@dataclass(frozen=True)
class IdMap:
    """The users and groups of a guest, as those of the container. Each has 0, and no ID twice on either side."""

    users: tuple[IdRange, ...]
    groups: tuple[IdRange, ...]


@dataclass(frozen=True)
class Command:
    """A program with its arguments, and what it reads from standard input; ``key`` says where it is written."""

    argv: tuple[str, ...]
    key: str
    input: str | None = None


@dataclass(frozen=True)
class ImageSource:
    """An image that the root is made of, as the boot makes one; ``cmdline`` are kernel arguments of a boot."""

    source_text: str
    cmdline: str = ""


@dataclass(frozen=True)
class GuestRoot:
    """The root of a guest: a directory of the container, or an image."""

    path: str = DEFAULT_ROOT
    mode: RootMode = RootMode.PIVOT
    source: ImageSource | None = None


@dataclass(frozen=True)
class GuestConfig:
    """Everything that the file says; ``path`` is the file, empty if there is none."""

    path: str = ""
    root: GuestRoot = field(default_factory=GuestRoot)
    id_map: IdMap | None = None
    initctl: bool = False
    excluded_devices: tuple[str, ...] = ()
    setup: SetupMode = SetupMode.AUTO
    before_setup: tuple[Command, ...] = ()
    before_exec: tuple[Command, ...] = ()
    command: tuple[str, ...] = DEFAULT_INIT
    rescue: bool = False
