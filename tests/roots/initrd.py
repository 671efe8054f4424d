"""Initrds that the roots' dracut builds, unpacked, and how a test runs something in one.

What is built stays in build/initrds until something changes that it is made of.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.roots.root import ALL, BUILDER, HERE, NEWEST, REPO, ROOTS, Root
from vmkit.stale import Target, locked, refresh

OURS: Final = "bootc-live bootc-live-net bootc-live-registry bootc-live-zram"
HANDLERS: Final = "url-lib nfs"
"""Packed by whoever wants archives from FTP, TFTP and NFS."""
_CACHE: Final = REPO / "build" / "initrds"


@dataclass(frozen=True)
class Kind:
    """An initrd with all our modules and systemd, or one with the base alone that dracut's own init runs.

    `shared` is the one that guests boot: vm/build makes it, with other modules of dracut and nothing of the machine.
    """

    root: Root
    flavour: str
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.root}-{'shared' if self.shared else self.flavour}"


SHARED: Final = Kind(BUILDER, "systemd", shared=True)
WITH_HANDLERS: Final = tuple(Kind(root, "systemd") for root in ALL)
BUILT: Final = (*WITH_HANDLERS, *(Kind(root, "plain") for root in ALL))
KINDS: Final = (*BUILT, SHARED)
LONG_KINDS: Final = (Kind(BUILDER, "systemd"), Kind(BUILDER, "plain"), Kind(NEWEST, "plain"))
"""Those that show the least beside the other kinds, and beside what guests boot."""


def parameters(kinds: tuple[Kind, ...], also_long: tuple[Kind, ...] = ()) -> list[object]:
    """Return the kinds as parameters of the fixture `initrd`; the long form has those of LONG_KINDS and `also_long`."""
    long = {*LONG_KINDS, *also_long}
    return [pytest.param(kind, marks=pytest.mark.long if kind in long else (), id=str(kind)) for kind in kinds]


@dataclass(frozen=True)
class Initrd:
    """An initrd and the directory it is unpacked to."""

    kind: Kind
    path: Path
    tree: Path
    said: str

    @property
    def root(self) -> Root:
        """The root whose dracut built it."""
        return self.kind.root

    @property
    def flavour(self) -> str:
        """Whether systemd runs it, or dracut's own init: `systemd` or `plain`."""
        return self.kind.flavour

    def run(self, *argv: str, cmdline: str = "", ok: bool = True) -> str:
        """Run a command inside; return what it printed, on both outputs. Raise AssertionError if it fails and `ok`."""
        private = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
        done = subprocess.run(
            [*private, HERE / "enter-initrd", self.tree, cmdline, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
            check=False,
        )
        assert not ok or done.returncode == 0, f"{argv} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, a path from the top of the initramfs."""
        return os.path.lexists(self.tree / name)


def unpack(kind: Kind, where: Path) -> Initrd:
    """Build an initrd unless it is there, and unpack it below a directory."""
    said = ""
    if kind.shared:
        assert kind.flavour == "systemd"
        subprocess.run([REPO / "vm" / "build", "initrd.img"], stdin=subprocess.DEVNULL, check=True)
        path = ROOTS.parent / "initrd.img"
    else:
        modules = f"{OURS} {HANDLERS}" if kind.flavour == "systemd" else "bootc-live"
        path = build(kind.root, kind.flavour, kind.flavour, modules)
        said = path.with_suffix(".log").read_text()
    tree = where / str(kind)
    tree.mkdir()
    kind.root.run("sh", "-c", 'cd "$1" && lsinitrd --unpack "$2"', "sh", tree, path)
    return Initrd(kind, path, tree, said)


def build(root: Root, name: str, flavour: str, modules: str) -> Path:
    """Build an initrd with the dracut modules of a list in one word, unless it is there and up to date."""
    image, log = f"{name}.img", f"{name}.log"

    def make(scratch: Path) -> None:
        done = root.run(HERE / "build-initrd", scratch / image, *root.kernel(), flavour, modules)
        (scratch / log).write_text(done.stdout + done.stderr)

    def inputs() -> list[Path]:
        roots = [ROOTS / name / "var/lib/dpkg/status" for name in (root.name, root.kernels)]
        return [REPO / "modules.d", REPO / "build" / "bootc-live.pyz", HERE / "build-initrd", *roots]

    out = _CACHE / root.name
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "lock"):
        refresh({name: Target(name, (image, log), inputs, make)}, [name], out)
    return out / image


@contextlib.contextmanager
def embedded(initrd: Initrd, image: Path) -> Iterator[str]:
    """The archive at a path of the initramfs."""
    place = initrd.tree / "root.oci"
    os.link(image, place)
    try:
        yield "/root.oci"
    finally:
        place.unlink()
