"""EROFS image files as other programs see them: the kernel, and erofs-utils."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lib.tree_list import Line


@contextmanager
def mounted(path: Path, where: Path) -> Iterator[Path]:
    """The image, mounted by mount(8) alone at a new directory."""
    where.mkdir()
    subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", path, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def read_by_erofs_utils(path: Path, target: Path | None = None) -> None:
    """fsck.erofs finds no fault with the image, and reads all of its data; into `target` if there is one."""
    extract = ["--extract"] if target is None else [f"--extract={target}", "--preserve"]
    command: list[str | Path] = ["fsck.erofs", *extract, path]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


def at_the_epoch(lines: Sequence[Line]) -> list[Line]:
    """A tree as it is with all times at 0."""
    return [line.but(mtime="0") for line in lines]
