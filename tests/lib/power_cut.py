"""A power cut or an error at the n-th step of what a block writes, and what a power cut may leave on the disk.

Steps are system calls that change a file system. What was not forced to the device before the cut is lost, kept, or
kept in another order than it was made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import pytest

Loss = Literal["nothing", "everything", "all but the last"]
LOSSES: Final[tuple[Loss, ...]] = ("nothing", "everything", "all but the last")
_CALLS: Final = ("open", "write", "pwrite", "fsync", "rename", "unlink", "mkdir", "rmdir")


class PowerCutError(BaseException):
    """Nothing after it happens; not an Exception, so that nobody handles it."""


class Steps:
    """Counts steps and cuts the power before number ``last``; a cut write has written half of its data.

    With ``error``, that is the result of this step, and everything goes on.
    """

    def __init__(self, last: int, scratch: Path, error: int = 0) -> None:
        self.last = last
        self.error = error
        self.count = 0
        self.dead = False
        self._scratch = scratch
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _CALLS}
        # What is not on the device yet; of data, the inode.
        self._undo: list[tuple[int | None, Callable[[], object]]] = []

    @contextmanager
    def counted(self, *syncing: object) -> Iterator[None]:
        """Count the steps of the block; ``syncing`` are modules that use ``sync_filesystem``."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _CALLS:
                patch.setattr(os, name, getattr(self, name))
            # A power cut leaves directories for scratch files, too.
            patch.setattr(tempfile, "tempdir", str(self._scratch))
            for module in syncing:
                patch.setattr(module, "sync_filesystem", self.sync)
            yield

    def step(self) -> None:
        if self.dead:
            raise PowerCutError
        self.count += 1
        if self.count == self.last:
            if self.error:
                raise OSError(self.error, os.strerror(self.error))
            self.dead = True
            raise PowerCutError

    def lose(self, loss: Loss) -> None:
        """Leave on the disk what a power cut may leave there."""
        if loss == "nothing":
            return
        if loss == "all but the last":
            self._undo = self._undo[:-1]
        for _, undo in reversed(self._undo):
            with suppress(OSError):
                undo()

    def open(self, path: str, flags: int, *args: Any, **more: Any) -> int:
        if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            return int(self._real["open"](path, flags, *args, **more))
        self.step()
        fd = int(self._real["open"](path, flags, *args, **more))
        before = Path(path).read_bytes()
        inode = os.fstat(fd).st_ino
        self._undo.append((inode, lambda: self._spoil(path, inode, before)))
        return fd

    @staticmethod
    def _spoil(path: str, inode: int, before: bytes) -> None:
        top = Path(path).parents[1]
        for found in top.rglob("*"):
            if found.is_file() and found.stat().st_ino == inode:
                found.write_bytes(before)

    def write(self, fd: int, data: bytes) -> int:
        try:
            self.step()
        except PowerCutError:
            # A page is written or not.
            self._real["write"](fd, bytes(data)[: len(data) // 2 if len(data) > 4096 else 0])
            raise
        return int(self._real["write"](fd, data))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        # A sector is written or not.
        self.step()
        return int(self._real["pwrite"](fd, data, offset))

    def fsync(self, fd: int) -> None:
        self.step()
        inode = os.fstat(fd).st_ino
        self._undo = [one for one in self._undo if one[0] != inode]

    def sync(self, path: str) -> None:
        assert os.path.isdir(path)
        self.step()
        self._undo = []

    def rename(self, old: str, new: str) -> None:
        self.step()
        saved = self._save(new) if os.path.isfile(new) else None
        self._real["rename"](old, new)

        def undo() -> None:
            self._real["rename"](new, old)
            if saved:
                shutil.copy(saved, new)

        self._undo.append((None, undo))

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None:
            # Of shutil.rmtree, for scratch files.
            self._real["unlink"](path, dir_fd=dir_fd)
            return
        self.step()
        saved = self._save(path)
        self._real["unlink"](path)
        self._undo.append((None, lambda: shutil.copy(saved, path)))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.step()
        self._real["mkdir"](path, mode)
        self._undo.append((None, lambda: shutil.rmtree(path)))

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None:
            self._real["rmdir"](path, dir_fd=dir_fd)
            return
        self.step()
        self._real["rmdir"](path)
        self._undo.append((None, lambda: self._real["mkdir"](path)))

    def _save(self, path: str) -> Path:
        saved = self._scratch / f"saved-{self.count}"
        return Path(shutil.copy(path, saved)) if os.path.exists(path) else saved


@contextmanager
def power_cut(last: int, scratch: Path, *syncing: object) -> Iterator[Steps]:
    """Cut the power before step ``last`` of the block; ``syncing`` are modules that use ``sync_filesystem``."""
    steps = Steps(last, scratch)
    with suppress(PowerCutError), steps.counted(*syncing):
        yield steps
