"""Archives on block devices: found by what udev knows of them, mounted read-only for as long as they are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.base.errors import RunError, SourceError
from bootc_live.base.paths import resolve_below
from bootc_live.config.source_spec import DeviceArchive
from bootc_live.system.mounts import mounted
from bootc_live.system.run import find_program, run

_HINT = "check root=, the device's name (blkid lists them), and that its driver is in the initramfs"
# What keeps a mount from replaying a journal: the device may belong to a hibernated system.
_UNTOUCHED = {"ext3": "noload", "ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}
# What blkid kept of a device may be of another medium by now, and its file would stay behind.
_NO_CACHE = {"BLKID_FILE": "/dev/null"}


@contextmanager
def mounted_device(spec: DeviceArchive, directory: str | None) -> Iterator[str]:
    """Mount the device and give the archive's path on it; unmounted after the block.

    ``directory`` is a place for the mount point, None for an own one. Raise SourceError.
    """
    device = find_device(spec)
    with tempfile.TemporaryDirectory(prefix="bootc-live-medium.", dir=directory) as where, ExitStack() as stack:
        try:
            kind = run(["blkid", "-p", "-o", "value", "-s", "TYPE", device], hint=_HINT).strip()
            options = ",".join(part for part in ("ro", _UNTOUCHED.get(kind, "")) if part)
            stack.enter_context(mounted(kind or "auto", device, where, options, hint=_HINT))
        except RunError as error:
            raise SourceError(f"{spec.typed!r}: cannot mount {device}: {error.message}", hint=_HINT) from error
        # A link on the medium leads to the medium, not into the running system.
        path = resolve_below(where, spec.path)
        if path is None:
            raise SourceError(
                f"{spec.typed!r}: there is no {spec.path!r} on {device}",
                hint="copy the archive there, or correct root=",
            )
        yield path


def find_device(spec: DeviceArchive, by: str = "/dev/disk") -> str:
    """Return the path of the block device a spec names; raise SourceError where there is none."""
    kind, assigned, name = spec.device.partition("=")
    if not assigned:
        found = spec.device if os.path.exists(spec.device) else None
    else:
        link = os.path.join(by, f"by-{kind.lower()}", udev_name(name))
        found = link if os.path.exists(link) else _ask_blkid(spec.device)
    if found is None:
        raise SourceError(f"{spec.typed!r}: there is no block device {spec.device}", hint=_HINT)
    return found


def udev_name(name: str) -> str:
    r"""Give a label as it stands in the names of udev's links below /dev/disk: odd characters are ``\xNN``."""
    plain = "#+-.:=@_"
    return "".join(
        char if (char.isascii() and char.isalnum()) or char in plain or not char.isascii() else f"\\x{ord(char):02x}"
        for char in name
    )


def _ask_blkid(tag: str) -> str | None:
    """Where no udev makes links, as in some containers, the devices themselves are looked at."""
    if find_program("blkid") is None:
        return None
    try:
        return run(["blkid", "-o", "device", "-l", "-t", tag], env=_NO_CACHE).strip() or None
    except RunError:
        return None
