"""Keep /var and the changes to /etc on a partition, over reboots and newer images."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bootc_live.base.errors import RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.config.model import WritableParts
from bootc_live.rootfs.writable.overlays import copy_tree, is_full, overlaid
from bootc_live.source.device import find_device
from bootc_live.system.files import no_space
from bootc_live.system.mounts import mounted
from bootc_live.system.run import run

# Everything of ours on the partition is below this directory.
_OWN = "bootc-live"
_SEED = "seed.json"
# Without references into the image below, which may be another one at the next boot.
_OVERLAY = "index=off,redirect_dir=off,metacopy=off"
_PROBE = "trusted.bootc-live"
_DAMAGED = "look at the kernel log (dmesg), and check the partition with fsck"
_HINT = "make it with mkfs.ext4 or mkfs.xfs, or leave bootc.live.state= out"


@dataclass(frozen=True)
class State:
    """A partition in use: the argument as typed, the device, its file system, and the origin of /var.

    ``seed`` names the image that /var was copied from, now or in an earlier boot, if known. ``first`` tells whether
    this boot copied it.
    """

    typed: str
    device: str
    kind: str
    seed: str | None = None
    first: bool = False


class UnusableStateError(RootfsError):
    """A partition for state is missing, or cannot be used for it."""


@contextmanager
def opened_state(parts: WritableParts, where: str, recorder: Recorder) -> Iterator[State | None]:
    """Mount the partition of ``parts`` at the directory ``where``, writable, while the block runs.

    Yield None if there is none, or, with a warning, if it cannot be used and is not required. Raise RootfsError if it
    is required.
    """
    if parts.state is None:
        yield None
        return
    if not parts.etc and not parts.var:
        recorder.warn(f"'bootc.live.state={parts.state}' is not used: neither /var nor /etc can be written")
        yield None
        return
    with ExitStack() as stack:
        found: State | None = None
        try:
            found = stack.enter_context(_mounted(parts.state, where))
        except UnusableStateError as error:
            if parts.state_required:
                raise
            recorder.warn(f"{error.message}; /var and /etc are kept in RAM and lost with it")
        yield found


def require_state(parts: WritableParts) -> None:
    """Raise RootfsError, before anything is fetched, if a required partition is missing."""
    if parts.state is not None and parts.state_required:
        _find(parts.state)


@contextmanager
def kept_etc(lower: str, etc: str, where: str, state: State) -> Iterator[None]:
    """Mount ``lower`` writable at ``etc`` while the block runs; the changes go to the partition mounted at ``where``.

    Raise RunError, and RootfsError if there is no space for them.
    """
    place = os.path.join(where, _OWN, "etc")
    with ExitStack() as stack:
        try:
            os.makedirs(place, 0o700, exist_ok=True)
            stack.enter_context(overlaid(lower, etc, _OVERLAY, place))
            if os.statvfs(etc).f_flag & os.ST_RDONLY:
                # The kernel mounts it so if it cannot create its work directory.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RootfsError(
                f"the changes to /etc cannot be kept on {state.typed!r}, {state.device}: {error.strerror}",
                hint="free some space on it" if no_space(error) else _DAMAGED,
            ) from error
        yield


def var_place(where: str, source: str, origin: str, state: State) -> tuple[str, State]:
    """Return the directory on the mounted partition for /var; at first use it becomes a copy of ``source``.

    ``origin`` names the image. The copy is complete or absent. Raise RootfsError if it does not fit.
    """
    own = os.path.join(where, _OWN)
    made, part, note = (os.path.join(own, name) for name in ("var", "var.part", _SEED))
    if os.path.isdir(made):
        return made, replace(state, seed=_read_seed(note))
    if os.path.lexists(part):
        shutil.rmtree(part)
    os.mkdir(part)
    try:
        copy_tree(source, part)
        with open(note, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "image": origin}, file)
        # The name promises a complete copy, so the copy must be on the disk first.
        os.sync()
        os.rename(part, made)
        os.sync()
    except (OSError, RunError) as error:
        full = is_full(where)
        usage = os.statvfs(where)
        size = mib(usage.f_blocks * usage.f_frsize)
        shutil.rmtree(part, ignore_errors=True)
        raise RootfsError(
            f"the image's /var cannot be copied to {state.typed!r}, {state.device} of {size}: "
            + ("it is full" if full else str(error)),
            hint="use a larger partition, or free some space on it" if full else _DAMAGED,
        ) from error
    return made, replace(state, seed=origin, first=True)


@contextmanager
def _mounted(asked: str, where: str) -> Iterator[State]:
    typed = f"bootc.live.state={asked}"
    device = _find(asked)
    _check_unused(typed, device)
    with ExitStack() as stack:
        try:
            kind = _kind(device)
            if not kind:
                raise UnusableStateError(f"{typed!r}: {device} has no known file system", hint=_HINT)
            stack.enter_context(mounted(kind, device, where, "rw", hint=_HINT))
        except RunError as error:
            raise UnusableStateError(f"{typed!r}: cannot mount {device}: {error.message}", hint=_HINT) from error
        _check_writable(typed, device, kind, where)
        yield State(typed, device, kind)


def _find(name: str) -> str:
    device = find_device(name)
    if device is None or not os.path.exists(device):
        raise UnusableStateError(
            f"'bootc.live.state={name}': there is no block device {name}",
            hint="check the name (blkid lists them), and that its driver is in the initramfs",
        )
    if not stat.S_ISBLK(os.stat(device).st_mode):
        raise UnusableStateError(
            f"'bootc.live.state={name}': {device} is not a block device", hint="correct bootc.live.state="
        )
    return device


def _kind(device: str) -> str:
    try:
        return run(["blkid", "-p", "-o", "value", "-s", "TYPE", device]).strip()
    except RunError:
        # It fails if it finds nothing.
        return ""


def _check_unused(typed: str, device: str) -> None:
    """Raise UnusableStateError for a mounted device: two systems that write to one /var would destroy it."""
    try:
        # For block devices this fails if something else uses it (open(2), O_EXCL).
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise UnusableStateError(
            f"{typed!r}: {device} cannot be used: {error.strerror}", hint="unmount it, or name another partition"
        ) from error


def _check_writable(typed: str, device: str, kind: str, where: str) -> None:
    if os.statvfs(where).f_flag & os.ST_RDONLY:
        raise UnusableStateError(
            f"{typed!r}: {device} is read-only", hint="unlock the medium, or check its file system with fsck"
        )
    own = os.path.join(where, _OWN)
    try:
        os.makedirs(own, 0o700, exist_ok=True)
        os.setxattr(own, _PROBE, b"y")
        os.removexattr(own, _PROBE)
    except OSError as error:
        full = f"{device} is full" if is_full(where) else ""
        raise UnusableStateError(
            f"{typed!r}: " + (full or f"{kind} on {device} cannot hold owners and extended attributes"), hint=_HINT
        ) from error


def _read_seed(note: str) -> str | None:
    try:
        with open(note, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    image = found.get("image") if isinstance(found, dict) else None
    return image if isinstance(image, str) else None
