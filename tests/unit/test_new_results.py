"""What verbs make: whole or not at all, and never in the place of anybody's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.system.cleanup.new_results import new_directory, publish_file, staging_directory, write_error_hint


def no_links(*_paths: object, **_options: object) -> None:
    """What link(2) and chmod(2) say on vfat, which an EFI system partition is."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def make(target: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    with staging_directory(str(target)) as beside:
        made = Path(beside, "made")
        made.write_text("new\n")
        meanwhile()
        publish_file(str(made), str(target))


@pytest.mark.parametrize("links", [True, False])
def test_a_file_gets_its_name_last(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(os, "chmod", no_links)
    make(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new\n"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_in_the_meantime_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "file"
    with pytest.raises(RootfsError, match="cannot be made"):
        make(target, meanwhile=lambda: target.write_text("mine\n"))
    assert target.read_text() == "mine\n"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_is_there_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="exists"), staging_directory(str(tmp_path / "link")):
        raise AssertionError("begun")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "free space there"),
        (errno.ENOTEMPTY, "it has been made in the meantime"),
        (errno.EEXIST, "it has been made in the meantime"),
        (errno.EROFS, "check that it is writable"),
        (errno.EACCES, "check that it is writable"),
    ],
)
def test_write_error_hint(number: int, said: str) -> None:
    assert write_error_hint(OSError(number, os.strerror(number))).startswith(said)


def fill(target: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    with new_directory(str(target)) as (result, scratch):
        Path(result, "a").write_text("a\n")
        Path(result, "b").mkdir()
        Path(result, "b/c").write_text("c\n")
        Path(scratch, "big").write_text("x" * 1000)
        meanwhile()


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("there", [False, True])
def test_a_directory_is_new_or_empty(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "made"
    if there:
        target.mkdir(0o700)
    fill(target)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "made",
        "made/a",
        "made/b",
        "made/b/c",
    ]
    assert target.stat().st_mode & 0o777 == (0o700 if there else 0o755)


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_nothing(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "made"
    if there:
        target.mkdir()
    with pytest.raises(KeyboardInterrupt):
        fill(target, interrupted)
    assert list(tmp_path.rglob("*")) == ([target] if there else [])


def test_a_failure_while_filling_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename
    moved: list[str] = []

    def rename(source: str, target: str, **inside: int) -> None:
        if moved and not inside:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        moved.append(target)
        real(source, target, **inside)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(RootfsError, match="No space left"):
        fill(tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_a_directory_that_came_in_the_meantime_stays(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with pytest.raises(RootfsError, match="not empty"):
        fill(target, lambda: (target / "mine").mkdir(parents=True))
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "mine"]


@pytest.mark.parametrize("kind", ["file", "full", "link"])
def test_what_is_no_empty_directory(kind: str, tmp_path: Path) -> None:
    target = tmp_path / kind
    if kind == "file":
        target.write_text("mine\n")
    elif kind == "full":
        (target / "mine").mkdir(parents=True)
    else:
        target.symlink_to(".")
    with pytest.raises(ConfigError, match="is not an empty directory"), new_directory(str(target)):
        raise AssertionError("begun")
