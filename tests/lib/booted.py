"""A root that the boot verb made, mounted in this namespace for a test to look at."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lib.program import Ended, Program

# mountinfo escapes white space and the backslash, see proc_pid_mountinfo(5).
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mount: its place below the root (`/` is the root's own), file system type and options of the mount."""

    place: str
    kind: str
    options: frozenset[str]
    source: str


@dataclass(frozen=True)
class Booted:
    """What a boot gave: the root as it is mounted, the receipt, what the verb said."""

    root: Path
    receipt: dict[str, Any]
    ended: Ended

    @property
    def mounts(self) -> dict[str, Mount]:
        """The mounts of the root by their place."""
        return {mount.place: mount for mount in _below(self.root)}


@contextmanager
def booted(program: Program, kargs: str, where: Path, *options: str | Path) -> Iterator[Booted]:
    """Boots with `kargs` on `where/sysroot`; receipt and workdir are in `where`, too. Unmounted with the block."""
    root, receipt, work = where / "sysroot", where / "receipt.json", where / "work"
    for directory in (root, work):
        directory.mkdir(parents=True)
    command = ["boot", "--cmdline", kargs, "--sysroot", root, "--receipt", receipt, "--workdir", work, *options]
    try:
        ended = program.run(*command).good()
        assert list(work.iterdir()) == [], "the workdir is not empty"
        yield Booted(root, json.loads(receipt.read_text()), ended)
    finally:
        if any(True for _ in _below(root)):
            subprocess.run(["umount", "-R", root], check=True)


def _below(root: Path) -> Iterator[Mount]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        place, options = head.split()[4:6]
        place = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), place)
        if place == str(root) or place.startswith(f"{root}/"):
            yield Mount(
                place.removeprefix(str(root)) or "/", tail.split()[0], frozenset(options.split(",")), tail.split()[1]
            )
