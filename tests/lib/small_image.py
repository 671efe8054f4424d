"""A small image that has all that a boot touches: an init, /etc, suid, devices, and a /var with every kind of file."""

from __future__ import annotations

import platform
import struct
from pathlib import Path
from typing import Final

from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.tar_writer import DEFAULT_MTIME, directory, file, hardlink, layer, node, symlink, xattr

ETC_MTIME: Final = DEFAULT_MTIME + 11
VAR_MTIME: Final = DEFAULT_MTIME + 22
# cap_net_raw+ep in the form of VFS_CAP_REVISION_2, see capabilities(7).
CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)

INIT: Final = (directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o755))
ETC: Final = (
    directory("etc/", mode=0o751, uid=3, gid=4, mtime=ETC_MTIME, pax=[xattr("trusted.etc", "yes")]),
    file("etc/hostname", "small\n", mtime=ETC_MTIME),
    file("etc/shadow", "root:*\n", mode=0o640, gid=42),
    directory("etc/ssl/"),
    file("etc/ssl/old", "from the image\n"),
)
VAR: Final = (
    directory("var/", mode=0o711, uid=5, gid=6, mtime=VAR_MTIME, pax=[xattr("trusted.var", "yes")]),
    directory("var/lib/", mode=0o1777, mtime=VAR_MTIME),
    file("var/lib/one", "two names\n", mode=0o750, uid=7, gid=8),
    hardlink("var/lib/two", "var/lib/one"),
    file("var/lib/capable", "x\n", mode=0o755, pax=[xattr("security.capability", CAPABILITY)]),
    file("var/lib/suid", "x\n", mode=0o6755, uid=9, gid=9),
    node("var/lib/null", "char", 1, 3, mode=0o666, uid=1),
    node("var/lib/fifo", "fifo", mode=0o620),
    symlink("var/lib/link", "../../etc/hostname", mtime=VAR_MTIME),
    directory("var/empty/", mode=0o700, mtime=VAR_MTIME),
)
USR: Final = (
    directory("usr/"),
    directory("usr/bin/"),
    file("usr/bin/plain", "#!/bin/sh\n", mode=0o755),
    directory("usr/lib/"),
    node("usr/lib/null", "char", 1, 3, mode=0o666),
)

# Where the system mounts something: an image without them is given them.
MOUNT_POINTS: Final = ("dev", "proc", "run", "sys", "tmp")

BASE: Final = layer(directory("./"), *(directory(f"{name}/") for name in MOUNT_POINTS), *INIT, *ETC, *USR, *VAR)
UPPER: Final = layer(file("etc/hostname", "small, changed above\n", mtime=ETC_MTIME), file("usr/new", "new\n"))


# This machine's architecture as images call it.
HERE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def small_image(*more: bytes) -> Image:
    """The small image with `more` layers on top."""
    return Image([Layer(tar) for tar in (BASE, UPPER, *more)], architecture=HERE)


def archive_of(path: Path, *tars: bytes) -> Path:
    """An archive at `path` of an image for this machine with these layers, base first."""
    return write_archive(path, Image([Layer(tar) for tar in tars], architecture=HERE))
