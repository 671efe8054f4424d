"""Runs that end while others begin: each finds the directory they share, or makes it anew."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.receipt.file import read_receipt, written_receipt
from bootc_live.rootfs import workspace
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.system.cleanup.directories import make_in


class Ending:
    """Another run, which removes the directory just when it would hurt, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        self._real = os.mkdir
        monkeypatch.setattr(os, "mkdir", self.mkdir)

    def mkdir(self, path: str, *rest: int) -> None:
        if self.left and "/base/" in path:
            self.left -= 1
            os.rmdir(os.path.dirname(path))
        self._real(path, *rest)


@pytest.mark.parametrize("times", [0, 1, 7])
def test_workspaces(times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "_in_ram", lambda *_: tempfile.TemporaryDirectory(dir=tmp_path))
    ending = Ending(monkeypatch, times)
    base = tmp_path / "base"
    with ram_workspace(base=str(base)) as where:
        assert Path(where).parent == base
        # One that ends now takes nothing away.
        with ram_workspace(base=str(base)) as other:
            assert other != where
        assert os.path.isdir(where)
    assert ending.left == 0
    assert not base.exists()


def gone_once(directory: Path) -> Callable[[], str]:
    """Makes something the second time; the first time, the directory is gone."""
    came: list[int] = []

    def make() -> str:
        came.append(1)
        if len(came) == 1:
            directory.rmdir()
        (directory / "made").touch(exist_ok=False)
        return "made"

    return make


def test_gone_in_between(tmp_path: Path) -> None:
    assert make_in(str(tmp_path / "a/b"), gone_once(tmp_path / "a/b")) == "made"
    assert os.listdir(tmp_path / "a/b") == ["made"]


def test_a_file_of_somebody_s_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError):
        make_in(str(tmp_path / "a"), lambda: None)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        make_in(str(tmp_path / "link"), lambda: None)
    assert (tmp_path / "a").read_text() == "mine"


def test_a_receipt_beside_a_run_that_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.makedirs, tmp_path / "base/receipt.json"
    left = [1, 1]

    def makedirs(name: str, *, exist_ok: bool) -> None:
        real(name, exist_ok=exist_ok)
        if left:
            left.pop()
            os.rmdir(name)

    monkeypatch.setattr(os, "makedirs", makedirs)
    with written_receipt({"a": 1}, str(path)):
        assert path.exists()


def test_the_same_receipt_by_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other run does all that it does just before this one puts its own in place, and takes it back meanwhile."""
    real, path = os.replace, tmp_path / "receipt.json"
    began: list[int] = []

    def replace(source: str, target: str) -> None:
        if not began:
            began.append(1)
            with written_receipt({"run": 2}, str(path)):
                assert read_receipt(str(path)) == {"run": 2}
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with written_receipt({"run": 1}, str(path)):
        assert read_receipt(str(path)) == {"run": 1}
    assert os.listdir(tmp_path) == ["receipt.json"]
    taken_back = written_receipt({"run": 1}, str(path))
    taken_back.__enter__()
    path.unlink()
    error = KeyError()
    assert not taken_back.__exit__(KeyError, error, None), "the failure itself is told, not what it found"
