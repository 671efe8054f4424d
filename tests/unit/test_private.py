"""Removal of whole trees: nothing stays of them, nothing else goes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bootc_live.system.cleanup.directories import private_directory, remove_entries


def deep(where: Path, levels: int) -> None:
    """Make directories in each other, with a file in each; their path gets longer than any path may be."""
    fd = os.open(where, os.O_RDONLY)
    for _ in range(levels):
        os.close(os.open("file", os.O_CREAT, dir_fd=fd))
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_everything_goes_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("x")
    with private_directory(str(tmp_path), "x.") as name:
        where = Path(name)
        for number in range(30):
            (where / f"{number}/same/same").mkdir(parents=True)
        (where / "link").symlink_to(outside)
        (where / "0/same/link").symlink_to(outside)
        os.mkfifo(where / "0/pipe")
        (where / "-rf\n").mkdir()
        deep(where, 1500)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert (outside / "mine").read_text() == "x"


def test_names_alone(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name / "below").mkdir(parents=True)
    remove_entries(str(tmp_path), ["one", "three"])
    assert [path.name for path in tmp_path.iterdir()] == ["two"]


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount point, say."""
    for name in ("one", "two/mounted", "three"):
        (tmp_path / name / "below").mkdir(parents=True)
    rename = os.rename

    def refuse(old: str, new: str, **more: int) -> None:
        if old == "mounted":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), old)
        rename(old, new, **more)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="busy"):
        remove_entries(str(tmp_path), ["one", "two", "three"])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "two",
        "two/mounted",
        "two/mounted/below",
    ]
