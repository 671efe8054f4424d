"""What every test can rely on, whatever interpreter runs it.

The package and the test helpers are imported from the source tree (`bootc_live`, `vmkit`, `tests.lib`); the libraries
that the zipapp bundles (requests, oras, yaml) from build/bootc-live.pyz, so that the very files that ship are tested.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
ZIPAPP = REPO / "build" / "bootc-live.pyz"

sys.path[:0] = [str(REPO / "pyapp"), str(REPO / "vm"), str(REPO)]
sys.path.append(str(ZIPAPP))

from tests.lib.program import compile_beside  # noqa: E402 # found by what is above

# A shell that starts tests in the background ignores these, and every program that they start would, too.
for _number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that asks for the long forms of tests; `tests/run all` gives it."""
    parser.addoption("--long", action="store_true", help="run the tests that are marked `long`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes long and shows little that its short form does not."""
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not item.get_closest_marker("long")]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The top of the source tree."""
    return REPO


@pytest.fixture(scope="session")
def zipapp() -> Path:
    """The built zipapp; `tests/run` builds it, by hand `python3 pyapp/build_zipapp.py` does.

    It has byte code beside it: a fifth of the stage integration would go into compiling it hundreds of times.
    """
    if not ZIPAPP.exists():
        pytest.fail(f"{ZIPAPP} is missing; build it with: python3 pyapp/build_zipapp.py")
    compile_beside(ZIPAPP)
    return ZIPAPP
