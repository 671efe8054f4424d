"""The /etc of a machine's first deployment: the image's, and what makes it this machine."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError, ImageError
from bootc_live.base.paths import directory_below, resolve_below
from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.landing.disk.make import ImageTree, image_etc
from bootc_live.landing.disk.partitions.fstab import PLACES, fstab, place_of
from bootc_live.landing.disk.partitions.model import Mounted
from bootc_live.rootfs.disk_units import MASK, DirectoryTree, UnitTree, enabled_units, masked_by

# sshd_config(5): the root of the image may be read-only, and with it /root.
_SSH = b"AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n"
_CREDENTIALS = "credstore"
# Linux has less room than RFC 1123, whose labels these are.
_LONGEST_HOST = 64
_HOST_LABEL = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?")
_MOST = 2**20

_TARGET, _TIMER = "bootc-live-health.target", "bootc-live-update.timer"
_JUDGE = "bootc-live-health.service"
# systemd's, without its ending.
_BLESS = "systemd-bless-boot"
# What their [Install] sections say: without them, a boot loader goes back from what nobody has called good.
LINKS = {
    _JUDGE: "multi-user.target.wants",
    _TARGET: "boot-complete.target.requires",
    "bootc-live-fallback.service": "emergency.target.wants",
    "bootc-live-finalize.service": "multi-user.target.wants",
}
UPDATE_LINKS = {_TIMER: "timers.target.wants"}
_PLACES = ("etc/systemd/system", "usr/lib/systemd/system")
_NAME = re.compile(
    r"[0-9A-Za-z:_.\\-]+(?:@[0-9A-Za-z:_.\\-]*)?\.(?:service|target|socket|mount|automount|timer|path|device|swap)"
)
_LABEL = "security.selinux"
_COPY = "copy bootc-live's directory systemd to /usr/lib/systemd/system of the image, see docs/disk.md"


@dataclass(frozen=True)
class UnitWishes:
    """Whether a machine upgrades itself, and the units that have to be up for a deployment to be good."""

    auto_update: bool = False
    success_units: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ConfigError for what is no name of a unit."""
        for unit in self.success_units:
            if not _NAME.fullmatch(unit):
                raise ConfigError(
                    f"--success-unit {unit!r} is not the name of a unit", hint="write it with its ending: web.service"
                )


@dataclass(frozen=True)
class Identity:
    """What a machine gets at its installation: a host name, root's ssh keys, and credentials for systemd by name.

    ``units`` are enabled. ``boot`` is mounted where the image has a place for it, and ``esp`` if that is another one.
    """

    hostname: str | None = None
    ssh_keys: bytes | None = None
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    units: UnitWishes = field(default_factory=UnitWishes)
    boot: Mounted | None = None
    esp: Mounted | None = None

    def __call__(self, tree: ImageTree, where: str) -> None:
        """Make the /etc of the first deployment at the new path ``where``; raise OSError and BootcLiveError."""
        image_etc(tree, where)
        try:
            for name, mode, content in self._files(where):
                _write(where, name, mode, content)
            _enable_units(tree, where, self.units)
            if self.boot is not None:
                _mount(tree, where, self.boot, self.esp)
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            path = str(error.filename)
            while not os.path.lexists(path):
                path = os.path.dirname(path)
            raise ImageError(
                f"'/etc/{os.path.relpath(path, where)}' of the image is in the way: {error.strerror}",
                hint="make it a directory or a file as usual, or leave it out of the image",
            ) from error

    def _files(self, where: str) -> Iterator[tuple[str, int, bytes]]:
        # Each machine needs its own; an empty file is filled at the first boot (machine-id(5)).
        if resolve_below(where, "machine-id") is not None:
            yield "machine-id", 0o444, b""
        if self.hostname is not None:
            yield "hostname", 0o644, f"{self.hostname}\n".encode()
        if self.ssh_keys is not None:
            yield "ssh/authorized_keys.d/root", 0o600, self.ssh_keys
            yield "ssh/sshd_config.d/10-bootc-live.conf", 0o644, _SSH
        for name, content in self.credentials.items():
            yield f"{_CREDENTIALS}/{name}", 0o600, content


def read_identity(hostname: str | None, ssh_keys: str | None, credentials: str | None) -> Identity:
    """Return what options say, which are a name and two paths; raise ConfigError."""
    if hostname is not None and (
        len(hostname) > _LONGEST_HOST or not all(map(_HOST_LABEL.fullmatch, hostname.split(".")))
    ):
        raise ConfigError(
            f"--hostname {hostname!r} is not a host name",
            hint="use up to 64 letters, digits, dots between them, and hyphens inside",
        )
    keys = None if ssh_keys is None else _read("--root-ssh-authorized-keys", ssh_keys)
    found = {}
    if credentials is not None:
        try:
            names = sorted(os.listdir(credentials))
        except OSError as error:
            raise ConfigError(
                f"--credentials {credentials!r} cannot be read: {error.strerror}", hint="name a directory of files"
            ) from error
        found = {name: _read("--credentials", os.path.join(credentials, name)) for name in names}
    return Identity(hostname, keys, found)


def _read(option: str, path: str) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{option} {path!r} is not a regular file", hint="name a file")
            content = file.read(_MOST + 1)
    except OSError as error:
        raise ConfigError(f"{option} {path!r} cannot be read: {error.strerror}", hint="name a file") from error
    if len(content) > _MOST:
        raise ConfigError(f"{option} {path!r} has more than a megabyte", hint="name another file")
    return content


@dataclass(frozen=True)
class _Units:
    """The units of a deployment, whose /etc is not the image's: a ``UnitTree``."""

    image: UnitTree
    etc: DirectoryTree

    def listing(self, directory: str) -> Mapping[str, str]:
        top, _, below = directory.partition("/")
        if top == "etc":
            return self.etc.listing(below)
        # Images of ostree have their /etc there, which is none of a running system.
        return {} if directory.startswith("usr/etc/") else self.image.listing(directory)

    def content(self, path: str) -> str:
        top, _, below = path.partition("/")
        return self.etc.content(below) if top == "etc" else self.image.content(path)


def is_judged(image: UnitTree, etc: str, loader: str, cmdline: str) -> bool:
    """Return whether something in a deployment, an image whose /etc is at a path, will call it good when it runs.

    That is bootc-live-health.service, if it is enabled, or systemd's own judge with the boot loaders that it knows. A
    generator starts that, and it finds the boot partition only where fstab(5) mounts it.
    """
    units = _Units(image, DirectoryTree(etc))
    masked = masked_by(split_cmdline(cmdline))
    there: dict[str, str] = {}
    for place in _PLACES:
        there = {**units.listing(place), **there}
    if _JUDGE in there and _JUDGE in enabled_units(units, masked):
        return True
    mounts = [line.partition("#")[0].split() for line in units.content("etc/fstab").splitlines()]
    return (
        loader != "grub"
        and f"{_BLESS}-generator" in units.listing("usr/lib/systemd/system-generators")
        and there.get(f"{_BLESS}.service", MASK) != MASK
        and f"{_BLESS}.service" not in masked
        and any(place_of(words) in PLACES for words in mounts)
    )


def _enable_units(tree: ImageTree, etc: str, wishes: UnitWishes) -> None:
    """Enable the image's units in the new ``etc``; raise ImageError if one is missing that was asked for, and OSError.

    Presets (systemd.preset(5)) count at the first boot, so there is one, too.
    """
    links = {**LINKS, **(UPDATE_LINKS if wishes.auto_update else {})}
    found = {unit: place for unit in links for place in _PLACES if tree.has(f"{place}/{unit}")}
    for asked, unit, option in (
        (wishes.auto_update, _TIMER, "--auto-update"),
        (bool(wishes.success_units), _TARGET, "--success-unit"),
    ):
        if asked and unit not in found:
            raise ImageError(f"{tree.image.resolved.source_text!r} has no {unit}, which {option} needs", hint=_COPY)
    if not found:
        return
    for unit, place in found.items():
        _link(etc, f"systemd/system/{links[unit]}/{unit}", f"/{place}/{unit}")
    preset = "".join(f"enable {unit}\n" for unit in found)
    _write(etc, "systemd/system-preset/10-bootc-live.preset", 0o644, preset.encode())
    if wishes.success_units:
        for unit in wishes.success_units:
            if not any(tree.has(f"{place}/{name}") for place in _PLACES for name in (unit, _template(unit))):
                tree.recorder.warn(f"the image has no {unit}: without it, no deployment is good")
        names = " ".join(wishes.success_units)
        text = f"[Unit]\nRequires={names}\nAfter={names}\n"
        _write(etc, f"systemd/system/{_TARGET}.d/50-success-units.conf", 0o644, text.encode())


def _mount(tree: ImageTree, etc: str, boot: Mounted, esp: Mounted | None) -> None:
    """Add boot partitions to the fstab of the new ``etc``; raise OSError."""
    there = resolve_below(etc, "fstab")
    brought = ""
    if os.path.islink(os.path.join(etc, "fstab")) and (there is None or not os.path.isfile(there)):
        tree.recorder.warn("/etc/fstab of the image is a link out of /etc: the boot partition is not added to it")
        return
    if there is not None and os.path.isfile(there):
        with open(there, encoding="utf-8", errors="surrogateescape") as file:
            brought = file.read()
    made = fstab(brought, boot, esp, tree.is_empty_directory)
    if made != brought:
        _write(etc, "fstab", 0o644, made.encode(errors="surrogateescape"))


def _template(unit: str) -> str:
    return re.sub(r"@[^.]*", "@", unit, count=1)


def _write(top: str, name: str, mode: int, content: bytes) -> None:
    """Replace a file below ``top``, whatever is there; links are not followed out of it."""
    path = _place(top, name)
    if os.path.lexists(path):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, mode)
    _label(path)


def _link(top: str, name: str, target: str) -> None:
    """Make a symbolic link below ``top``, unless there is something."""
    path = _place(top, name)
    if not os.path.lexists(path):
        os.symlink(target, path)
        _label(path)


def _place(top: str, name: str) -> str:
    """Return the path of a file below ``top``, whose directories are made."""
    above, _, last = name.rpartition("/")
    parts = above.split("/")
    for number in range(len(parts)):
        # Nobody else may list the names of credentials.
        _label(directory_below(top, "/".join(parts[: number + 1]), 0o700 if above == _CREDENTIALS else 0o755))
    return os.path.join(directory_below(top, above), last)


def _label(path: str) -> None:
    """Give a new file the label of its directory, as a kernel with SELinux would; others keep theirs."""
    with suppress(OSError):
        label = os.getxattr(os.path.dirname(path), _LABEL)
        os.setxattr(path, _LABEL, label, os.XATTR_CREATE, follow_symlinks=False)
