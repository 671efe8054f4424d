"""Which cache a verb uses, by options, environment and what is there."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.options import cache as options_module
from bootc_live.cli.options.cache import cache_argument, size_limit

MIB = 2**20


def options(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"cache": None, "no_cache": False, "max_size": None, **changes})


def chosen(*, required: bool = False, **changes: object) -> str | None:
    found = cache_argument(options(**changes), Recorder(quiet=True), required=required)
    return None if found is None else found.path


def test_which_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default, named = tmp_path / "default", tmp_path / "named"
    monkeypatch.setattr(options_module, "DEFAULT", str(default))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    assert chosen() is None
    assert chosen(required=True) == str(default)
    assert chosen(cache="named") == str(named)
    default.mkdir()
    assert chosen() == str(default)
    monkeypatch.setenv("CACHE_DIRECTORY", f"{named}:/other")
    assert chosen() == str(named)
    assert chosen(no_cache=True, required=True) is None
    # Nothing is made before something is put into it.
    assert not named.exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.touch(), "is not a directory"),
        (lambda path: path.mkdir() or path.chmod(0o777), "can be written to by other users"),
        (lambda _: None, "--cache '{path}/no/such' cannot be made"),
    ],
)
def test_no_cache_there(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    make(path)
    wanted = str(path) if path.exists() else f"{path}/no/such"
    with pytest.raises(ConfigError) as caught:
        chosen(cache=wanted)
    assert said.format(path=path) in caught.value.message
    assert caught.value.hint


def test_limit_of_no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(options_module, "DEFAULT", str(tmp_path / "none"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    for changes in ({}, {"no_cache": True}):
        with pytest.raises(ConfigError, match="--max-size '5' is for a cache"):
            chosen(max_size="5", **changes)
    with pytest.raises(ConfigError, match="--cache '' is not a directory"):
        chosen(cache="")


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("5", 5 * MIB), ("2G", 2048 * MIB), ("1.5", None), ("5%", None)])
def test_sizes(text: str, size: int | None, tmp_path: Path) -> None:
    if size is None:
        with pytest.raises(ConfigError, match=f"--max-size '{text}' is not a size"):
            chosen(cache=str(tmp_path), max_size=text)
    else:
        assert size_limit(options(max_size=text)) == size
