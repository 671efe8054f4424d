"""Find block devices, and mount them read-only while an archive on them is read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.base.advice import advise
from bootc_live.base.errors import RunError, SourceError
from bootc_live.base.paths import resolve_below
from bootc_live.config.source_spec import DeviceArchive
from bootc_live.system.mounts import mounted
from bootc_live.system.run import find_program, run

# Options against replaying a journal: the device may belong to a hibernated system.
_NO_REPLAY = {"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}
# blkid's cache can be outdated, and its file would remain.
_NO_CACHE = {"BLKID_FILE": "/dev/null"}


@contextmanager
def mounted_device(spec: DeviceArchive, directory: str | None) -> Iterator[str]:
    """Mount the device, and yield the path of the archive on it; unmount it after the block. Raise SourceError.

    ``directory`` is the parent of the mount point, or None for the system's directory for temporary files.
    """
    device = find_device(spec.device)
    if device is None:
        raise SourceError(f"{spec.source_text!r}: there is no block device {spec.device}", hint=_hint())
    with tempfile.TemporaryDirectory(prefix="bootc-live-medium.", dir=directory) as where, ExitStack() as stack:
        try:
            kind = run(["blkid", "-p", "-o", "value", "-s", "TYPE", device], hint=_hint()).strip()
            options = ",".join(part for part in ("ro", _NO_REPLAY.get(kind, "")) if part)
            stack.enter_context(mounted(kind or "auto", device, where, options, hint=_hint()))
        except RunError as error:
            raise SourceError(f"{spec.source_text!r}: cannot mount {device}: {error.message}", hint=_hint()) from error
        # Resolve links on the device itself, not in the running system.
        path = resolve_below(where, spec.path)
        if path is None:
            raise SourceError(
                f"{spec.source_text!r}: {device} does not contain {spec.path!r}",
                hint=f"copy the archive there, or correct {advise('root=', 'its path')}",
            )
        yield path


def find_device(device: str, by: str = "/dev/disk") -> str | None:
    """Return the path of a block device, named as ``LABEL=USB`` or ``/dev/sda1``, or None."""
    kind, assigned, name = device.partition("=")
    if not assigned:
        return device if os.path.exists(device) else None
    link = os.path.join(by, f"by-{kind.lower()}", udev_name(name))
    return link if os.path.exists(link) else _ask_blkid(device)


def udev_name(name: str) -> str:
    r"""Return a label as in the names of udev's links below /dev/disk: special characters are ``\xNN``."""
    plain = "#+-.:=@_"
    return "".join(
        char if (char.isascii() and char.isalnum()) or char in plain or not char.isascii() else f"\\x{ord(char):02x}"
        for char in name
    )


def _ask_blkid(tag: str) -> str | None:
    """Return the device with a tag in its superblock, for systems without udev, such as containers."""
    if find_program("blkid") is None:
        return None
    try:
        return run(["blkid", "-o", "device", "-l", "-t", tag], env=_NO_CACHE).strip() or None
    except RunError:
        return None


def _hint() -> str:
    return "check the device's name (blkid lists them)" + advise(
        " in root=, and that its driver is in the initramfs", ", and that it is connected"
    )
