"""Layers by which an image's author tries what he can, on top of one that boots."""

from __future__ import annotations

import struct
from typing import Final

from tests.lib.tar_writer import Pax, directory, file, hardlink, layer, node, symlink, xattr

_UP: Final = "../" * 24
_LONG: Final = "n" * 255
_CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 2**32 - 1, 0, 0, 0)
_ODD: Final[Pax] = (
    xattr("user.odd", b"\0\xff\n=\x1b[2J"),
    xattr("trusted.k", "v"),
    xattr("trusted.overlay.redirect", "/root"),
    xattr("weird.k", "v"),
)

_DEEP: Final = [f"usr/h/{'/'.join([_LONG] * depth)}" for depth in range(1, 5)]

# umoci gives directories that a layer changes, and does not describe, the time of unpacking, and the group of a setgid
# directory to those that it makes.
_DESCRIBED: Final = (
    directory("usr/h/", mode=0o1777, uid=2**31, gid=2**31 - 1, pax=_ODD),
    *(directory(f"{name}/") for name in ("usr/h/gone", "usr/h/not", "usr/h/not/there", "var/hostile", "var", *_DEEP)),
)
_BELOW: Final = (
    *_DESCRIBED,
    directory("usr/h/rights/", mode=0o7777, gid=2**31 - 1),
    *(directory(f"usr/h/{name}/") for name in ("opaque", "file", "link", "through")),
    *(file(f"usr/h/{name}/below", name) for name in ("gone", "opaque", "file", "link", "through")),
    file("usr/h/dir", "to become a directory"),
    symlink("usr/h/up", _UP),
    symlink("usr/h/away", "/var/hostile"),
    symlink("usr/h/nowhere", "not/there"),
    symlink("etc/hostile-link", _UP + "etc"),
    directory("etc/hostile/", pax=_ODD),
    file("etc/hostile/lower", "hidden by what is no device of overlayfs"),
)
_ABOVE: Final = (
    # Whiteouts: of a directory whose children come in the same layer, before and after; of what is not there.
    file("usr/h/gone/before", "1"),
    file("usr/h/.wh.gone"),
    file("usr/h/gone/after", "1"),
    file("usr/h/opaque/before", "1"),
    file("usr/h/opaque/.wh..wh..opq"),
    file("usr/h/.wh.was-never-there"),
    # Through links, in and out of what is written to at run time.
    file("usr/h/up/hostile-up", "at the top"),
    file("usr/h/away/below", "in /var"),
    file("usr/h/nowhere/below", "in another directory"),
    file("etc/hostile-link/hostile-through", "in /etc"),
    # One kind in place of another.
    file("usr/h/file", "was a directory"),
    directory("usr/h/dir/", mode=0o1777),
    symlink("usr/h/link", "through"),
    file("usr/h/link/by-link", "x"),
    # What has rights.
    file("usr/h/root", "#!/bin/sh\n", mode=0o6755),
    hardlink("usr/h/root-again", "usr/h/root"),
    file("usr/h/capable", "x", mode=0o755, pax=[xattr("security.capability", _CAPABILITY)]),
    hardlink("usr/h/id-setuid", "usr/local/bin/id-setuid"),
    node("usr/h/memory", "char", 1, 1, mode=0o666),
    node("usr/h/disk", "block", 7, 0, mode=0o666),
    node("usr/h/high", "block", 4095, 2**20 - 1, pax=[xattr("trusted.k", "v")]),
    node("usr/h/pipe", "fifo"),
    # What overlayfs takes for a whiteout.
    node("usr/h/zero", "char", 0, 0),
    node("etc/hostile/lower", "char", 0, 0),
    # Names and targets.
    *(file(f"usr/h/{name}", "x") for name in ("new\nline", "\x1b[2J\x1b]0;x\x07", "%s", "-rf", " ", "\\", "....")),
    file(b"usr/h/\xff\xfe", "no UTF-8"),
    file(f"{_DEEP[-1]}/{_LONG}", "deep"),
    symlink("usr/h/long", "t/" * 2047 + "t"),
    file("/./usr//h/./written", "x"),
    *_DESCRIBED,
)
LAYERS: Final = (layer(*_BELOW), layer(*_ABOVE))
"""What all of this makes is for umoci to say."""
