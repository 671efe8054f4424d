"""Makes files anew only when what they are made of has changed.

A target is fresh while all its files exist and the fingerprint of its inputs equals the
one stored at its last making. Files are made below a scratch directory and renamed, so
an interrupted run leaves the old file or none, never half of one.
"""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

_SCRATCH: Final = ".making-"


@dataclass(frozen=True)
class Target:
    """Files made together by one step."""

    name: str
    files: tuple[str, ...]
    """Names in the output directory; the first one is the target's main file."""
    inputs: Callable[[], list[Path]]
    """Files and directories it is made of; called after ``needs`` are made."""
    make: Callable[[Path], None]
    """Creates all ``files`` in the scratch directory it is given."""
    needs: tuple[str, ...] = ()
    """Names of targets that must be fresh before."""
    default: bool = True
    """Whether it is made when no target is named."""


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash over names, executable bits and contents of files and directory trees.

    Python's own caches do not count. A path that does not exist raises FileNotFoundError.
    """
    digest = hashlib.sha256()
    for path in paths:
        for item in _walk(path):
            mode = item.lstat().st_mode
            digest.update(f"{item}\0{mode & stat.S_IXUSR}\0".encode())
            if stat.S_ISLNK(mode):
                digest.update(os.readlink(item).encode())
            elif stat.S_ISREG(mode):
                with item.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _walk(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.name != "__pycache__":
            yield from _walk(child)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``; waits for other holders."""
    with path.open("w") as file:
        flock(file, LOCK_EX)
        yield


def refresh(targets: dict[str, Target], wanted: Iterable[str], out: Path) -> None:
    """Make the ``wanted`` targets and what they need in ``out``, as far as they are stale."""
    stamps = out / ".stamps"
    stamps.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left)
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in done:
            return
        target = targets[name]
        for need in target.needs:
            visit(need)
        _refresh_one(target, out, stamps / name)
        done.add(name)

    for name in wanted:
        visit(name)


def _refresh_one(target: Target, out: Path, stamp: Path) -> None:
    current = fingerprint(target.inputs())
    if all((out / name).exists() for name in target.files) and _read(stamp) == current:
        return
    stamp.unlink(missing_ok=True)
    start = time.monotonic()
    scratch = Path(tempfile.mkdtemp(dir=out, prefix=_SCRATCH))
    try:
        target.make(scratch)
        for name in target.files:
            (scratch / name).replace(out / name)
    finally:
        shutil.rmtree(scratch)
    stamp.write_text(current)
    size = sum((out / name).stat().st_size for name in target.files) / 2**20
    seconds = time.monotonic() - start
    print(f"vm: made {target.name} ({size:.1f} MiB, {seconds:.1f} s)", file=sys.stderr)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
