"""Numbers of servers, images and command lines are read by one function."""

from __future__ import annotations

import pytest

from tests.lint.rule_numbers import conversions
from tests.lint.tree import name_of, python_files

PACKAGE = "pyapp/bootc_live"


def test_numbers_are_read_in_one_place() -> None:
    paths = [path for part in ("config", "source", "image") for path in python_files(f"{PACKAGE}/{part}")]
    assert paths
    found = [f"{name_of(path)}:{use}" for path in paths for use in conversions(path.read_text())]
    if found:
        pytest.fail("use decimal() or bounded_integer() of base/numbers.py\n" + "\n".join(found), pytrace=False)


@pytest.mark.parametrize(
    "source", ["int('7')", "x = [int(y, 8) for y in z]", "list(map(int, z))", "f(key=int)", "int(match[1]) * 2"]
)
def test_a_conversion_is_found(source: str) -> None:
    assert conversions(source)


@pytest.mark.parametrize(
    "source",
    ["x: int = 7", "def f(a: int | None) -> int: ...", "isinstance(x, int)", "int.from_bytes(x)", "cast(int, x)"],
)
def test_a_type_passes(source: str) -> None:
    assert conversions(source) == []
