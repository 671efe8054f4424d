"""Inputs that change at random find no fault; see tests/fuzz."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz import corpus
from tests.fuzz.engine import published
from tests.fuzz.plain import fuzz as fuzz_unguided
from tests.fuzz.plain import replay
from tests.fuzz.run import fuzz
from tests.fuzz.target import FaultError, Target
from tests.fuzz.targets import AWAKE, TARGETS
from tests.lib.needs import need_package

CHANGES: Final = 500
SECONDS_LONG: Final = 600


def outcome(name: str, seconds: int, seed: int, found: Path) -> subprocess.CompletedProcess[str]:
    """Fuzz a target, with atheris wherever there is one for this Python."""
    if published():
        need_package("atheris")
    return fuzz(name, seconds, found, seed=seed, output=subprocess.PIPE)


# A new fault is for who looks for one: the ordinary run tries what it tried the last time.
@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_changes_of_it(name: str) -> None:
    inputs = corpus.load(name)
    assert inputs, f"tests/fuzz/corpus/{name}.zip is missing"
    replay(TARGETS[name], inputs, CHANGES, 1)


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.group(f"fuzz {name}")) for name in TARGETS])
def test_target(name: str, tmp_path: Path) -> None:
    done = outcome(name, SECONDS_LONG, 0, tmp_path)
    if done.returncode:
        pytest.fail(f"{done.stdout[-6000:]}\nTo try the input: python -m tests.fuzz.run {name} FILE", pytrace=False)


def test_a_fault_is_found(tmp_path: Path) -> None:
    done = outcome(AWAKE.name, 60, 1, tmp_path)
    assert done.returncode
    assert "AssertionError: it begins with x" in done.stdout
    assert re.search(r"with the input b'x|Base64: e", done.stdout)


def test_a_fault_is_found_without_atheris() -> None:
    with pytest.raises(AssertionError, match="it begins with x"):
        fuzz_unguided(AWAKE, [b"abc"], 60, 1)


def refuse(data: bytes) -> None:
    int(data, 8)


@pytest.mark.parametrize(("inputs", "changes"), [([b"abc"], 2000), ([b"xyz"], 0)])
def test_a_fault_is_found_by_replaying(inputs: list[bytes], changes: int) -> None:
    with pytest.raises(AssertionError, match="it begins with x"):
        replay(AWAKE, inputs, changes, 1)


def test_errors_of_libraries_are_faults() -> None:
    """ValueError is what many of them raise, and what some of our functions promise."""
    with pytest.raises(FaultError, match="ValueError was not raised by the program itself"):
        Target("t", refuse, (ValueError,), 9).feed(b"9")


def test_refusals_are_none() -> None:
    TARGETS["tar"].feed(b"x" * 600)
