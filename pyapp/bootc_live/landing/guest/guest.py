"""Land in the next root of a container, whose first process becomes the guest's init."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.config.guest.model import GuestConfig, RootMode, SetupMode
from bootc_live.landing.guest import platform
from bootc_live.landing.guest.enter import enter_guest
from bootc_live.landing.guest.plan import GuestPlan, Ranges, outside
from bootc_live.landing.guest.step import step
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.surroundings import Devices, make_devices, make_proc, place_below
from bootc_live.system.cleanup.guard import succeed_with
from bootc_live.system.mounts import is_mount_point, mount_tree
from bootc_live.system.namespaces import bind_at
from bootc_live.system.network.interfaces import network_interfaces
from bootc_live.system.run import environment

_SEARCH_PATH = environment()["PATH"]
# Where a root is attached that is no directory of the container.
_PLACE = "/run"
_ALLOW = "give the container this capability, see docs/guest.md"
# They belong to the container, and name what the guest does not have; Python sets the first one.
_NOT_PASSED = ("LC_CTYPE", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Made(Protocol):
    """What a guest gets: a root that is mounted at ``path``, and how it was typed."""

    @property
    def path(self) -> str:
        """Return its directory."""

    @property
    def source_text(self) -> str:
        """Return its name."""


@dataclass(frozen=True)
class Directory:
    """A directory that is a root already."""

    path: str

    @property
    def source_text(self) -> str:
        """Return the path."""
        return self.path


@dataclass
class GuestLanding:
    """Makes a mounted root the guest's, and becomes its init; a ``Landing``.

    ``environment`` is that of the container. ``writable`` says whether the root of an image gets a writable part here,
    because that has the guest's owners; it is made read-only then.
    """

    config: GuestConfig
    environment: Mapping[str, str]
    writable: bool = False
    _tree: int | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def _setup(self) -> bool:
        return self.config.setup is not SetupMode.NONE

    def check(self) -> None:
        """Raise LandingError if this container cannot have a guest."""
        root = self.config.root
        if os.path.realpath(root.path) == "/" and root.source is None:
            raise LandingError("root: '/' is the container itself", hint="name the directory of the next root")
        wanted = [platform.SYS_ADMIN]
        if root.mode is RootMode.CHROOT:
            wanted.append(platform.SYS_CHROOT)
        if self._setup and self.config.id_map is not None:
            wanted += [platform.CHOWN, platform.DAC_OVERRIDE, platform.SETUID, platform.SETGID]
        if self._setup and platform.has_own_network() and network_interfaces():
            wanted.append(platform.NET_ADMIN)
        lacking = platform.lacking(tuple(wanted))
        if lacking:
            raise LandingError(f"this container lacks {', '.join(lacking)}, which a guest needs", hint=_ALLOW)
        if self._setup and self.config.id_map is not None:
            _check_map("id_map.users", self.config.id_map.users, "/proc/self/uid_map")
            _check_map("id_map.groups", self.config.id_map.groups, "/proc/self/gid_map")

    def examine(self, made: Made) -> list[str]:
        """Raise LandingError for a root that no guest can have; return warnings."""
        config, path = self.config, made.path
        if not os.path.isdir(path):
            raise LandingError(
                f"root: {made.source_text!r} is not a directory", hint="correct root, or mount it there by a hook"
            )
        program = config.command[0]
        place = "/" if config.root.mode is RootMode.NONE else path
        if not config.before_exec and program.startswith("/") and resolve_below(place, program) is None:
            raise LandingError(
                f"exec.command: there is no {program!r} in {made.source_text if place == path else place!r}",
                hint="correct exec.command, or check that the root is mounted",
            )
        warnings = []
        if self._setup and not platform.has_own_network():
            warnings.append("the network of this container is that of the machine: its interfaces stay there")
        owner = os.stat(path)
        if config.id_map is not None and self._setup and config.root.source is None:
            inside = [
                any(each.outside <= number < each.outside + each.size for each in ranges)
                for number, ranges in ((owner.st_uid, config.id_map.users), (owner.st_gid, config.id_map.groups))
            ]
            if not all(inside):
                warning = f"{made.source_text!r} belongs to {owner.st_uid}:{owner.st_gid}, which id_map does not map"
                warnings.append(f"{warning}: its files will seem to be nobody's; mount it with the hook mount-idmapped")
        return warnings

    def prepare(self, made: Made, receipt: Receipt) -> str:  # noqa: ARG002
        """Mount what only the container can, and make a detached copy of the root's mounts; raise LandingError."""
        if self.config.root.source is not None and self.config.id_map is not None and self._setup:
            # A late import: only an image needs it.
            from bootc_live.landing.guest.owners import owned_by_guest

            self._stack.enter_context(owned_by_guest(made.path, self.config.id_map, writable=self.writable))
        root = os.path.realpath(made.path)
        with step("root", "mount the root"):
            if not is_mount_point(root):
                bind_at(root, root)
        if self._setup:
            self._mount(root)
        with step("root", "copy the mounts of the root"):
            self._tree = mount_tree(root)
            self._stack.callback(os.close, self._tree)
        return f"{self.config.command[0]} can be started"

    def _mount(self, root: str) -> None:
        config = self.config
        users, groups = (config.id_map.users, config.id_map.groups) if config.id_map else ((), ())
        with step("setup.mode", "mount /proc"):
            proc = place_below(root, "proc")
            try:
                make_proc(proc, host_network=False)
            except PermissionError:
                # In a user namespace whose /proc hides something; that of the container shows the same processes.
                bind_at("/proc", proc)
        container = platform.platform(config.setup, self.environment) is not SetupMode.NONE
        # Outside of a container, these would be the disks of the machine.
        more = platform.given_devices() if container else []
        with step("devices" if config.excluded_devices else "setup.mode", "make /dev"):
            owned = Devices(outside(users), outside(groups), config.excluded_devices, more)
            make_devices(place_below(root, "dev"), owned)
            if users and os.getppid() == 1 and os.isatty(0):
                # The container's own terminal: the guest has to open it.
                os.fchown(0, outside(users), outside(groups))

    def commit(self) -> str:
        """Let the first process become the guest's init when this one has ended."""
        assert self._tree is not None, "prepared"
        config = self.config
        place = _PLACE if config.root.source else os.path.realpath(config.root.path)
        maps = config.id_map if self._setup else None
        plan = GuestPlan(
            place,
            config.root.mode,
            self._setup,
            maps.users if maps else (),
            maps.groups if maps else (),
            config.before_exec,
            config.command,
            self._environment(),
            config.initctl,
            config.rescue,
        )
        succeed_with(enter_guest, plan.data(), descriptors=[self._tree])
        return f"{config.command[0]} follows"

    def _environment(self) -> dict[str, str]:
        passed = {name: value for name, value in self.environment.items() if name not in _NOT_PASSED}
        return {"PATH": _SEARCH_PATH, "container": "bootc-live", **passed}

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


def _check_map(key: str, ranges: Ranges, own: str) -> None:
    """Raise LandingError if a map leads to IDs that this container does not have itself (user_namespaces(7))."""
    with open(own, encoding="ascii") as file:
        held = sorted((int(first), int(size)) for first, _, size in map(str.split, file))
    for each in ranges:
        following = each.outside
        for first, size in held:
            if first <= following < first + size:
                following = first + size
        if following < each.outside + each.size:
            raise LandingError(
                f"{key}: the container itself has no ID {following}",
                hint=f"map only IDs that it has, see {own} in it, or give it more",
            )
