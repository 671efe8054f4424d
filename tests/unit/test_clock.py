"""The clock's floor: raised when behind, otherwise untouched, and never fatal."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bootc_live.system.clock import raise_clock

BUILT = 1_700_000_000


@pytest.fixture
def built(tmp_path: Path) -> Path:
    path = tmp_path / "built"
    path.write_text(f"{BUILT}\n")
    return path


def test_a_clock_that_is_behind_is_set(built: Path) -> None:
    calls: list[float] = []
    told = raise_clock(str(built), now=lambda: 3600.0, set_clock=calls.append)
    assert calls == [BUILT]
    assert told == (
        "the clock was 1970-01-01 01:00:00 UTC, before this initramfs was built; it was set to 2023-11-14 22:13:20 UTC"
    )


@pytest.mark.parametrize("now", [BUILT, BUILT + 1, 4e9])
def test_a_clock_that_is_ahead_is_left_alone(built: Path, now: float) -> None:
    calls: list[float] = []
    assert raise_clock(str(built), now=lambda: now, set_clock=calls.append) is None
    assert calls == []


def test_the_real_clock_is_ahead_of_the_past(built: Path) -> None:
    assert raise_clock(str(built)) is None


def test_without_the_file_nothing_is_done(tmp_path: Path) -> None:
    calls: list[float] = []
    assert raise_clock(str(tmp_path / "built"), now=lambda: 0.0, set_clock=calls.append) is None
    assert calls == []


def test_not_being_able_to_is_told(built: Path) -> None:
    def refuse(seconds: float) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(seconds))

    told = raise_clock(str(built), now=lambda: 0.0, set_clock=refuse)
    assert told is not None
    assert "could not be set (Operation not permitted)" in told
    assert "certificates" in told


@pytest.mark.parametrize("content", ["", "soon", "\0", "é"])
def test_a_damaged_file_is_told(tmp_path: Path, content: str) -> None:
    calls: list[float] = []
    path = tmp_path / "built"
    path.write_text(content, encoding="utf-8")
    told = raise_clock(str(path), now=lambda: 0.0, set_clock=calls.append)
    assert told is not None
    assert str(path) in told
    assert "cannot be read" in told
    assert calls == []
