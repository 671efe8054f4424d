"""What a test needs of the machine: it is skipped by name where that is missing, but an error where it must be there.

That is so under CI, where the variable CI is set.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import pytest


def strict() -> bool:
    """Tell whether a test whose needs are not met is an error."""
    return bool(os.environ.get("CI"))


def need(*programs: str) -> None:
    """Skip the test that calls this, or fail it, unless all of these programs are installed."""
    for program in programs:
        if shutil.which(program) is None:
            _unmet(_reason(program))


def need_package(name: str) -> None:
    """Skip the test that calls this, or fail it, unless this Python package is installed."""
    if importlib.util.find_spec(name) is None:
        _unmet(f"needs the Python package {name}; tests/run installs it")


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark of tests that need these programs."""
    import pytest

    missing = ", ".join(program for program in programs if shutil.which(program) is None)
    # Where it must be there, the test fails by itself.
    return pytest.mark.skipif(bool(missing) and not strict(), reason=_reason(missing))


def _reason(missing: str) -> str:
    return f"needs the program {missing}; install it to run this test"


def _unmet(reason: str) -> NoReturn:
    # Not needed by programs that only write images.
    import pytest

    if strict():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
