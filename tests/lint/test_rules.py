"""Our own rules hold in the whole tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lint import rule_calls, rule_hooks, rule_imports, rule_text, rule_units
from tests.lint.tree import REPO, files, name_of, python_files, shell_files, text_of

PACKAGE = "pyapp/bootc_live"
# More in one folder are several subjects.
MOST_MODULES = 13
PROCESS_MODULE = f"{PACKAGE}/system/run.py"
EXIT_MODULE = f"{PACKAGE}/__main__.py"
# Begin and end processes that are this program itself: the child that works, and those that decompress.
GUARD_MODULES = {f"{PACKAGE}/system/cleanup/guard.py", f"{PACKAGE}/system/cleanup/processes.py"}
# Start the first processes of namespaces and of machines, and become programs there.
CONTAIN_MODULES = {
    f"{PACKAGE}/landing/pivot/{name}.py"
    for name in ("contain/contain", "first/main", "first/start", "first/supervisor")
}
# Lets the kernel begin a program to see whether it would, and ends without returning: its root is gone.
TAKEOVER_MODULE = f"{PACKAGE}/landing/pivot/takeover/switch.py"
# Start processes beside the first one of a container, and become programs in it.
GUEST_MODULES = {f"{PACKAGE}/landing/guest/{name}.py" for name in ("enter", "outside", "tools/initctl")}
OUTPUT_MODULE = f"{PACKAGE}/base/output.py"
# Its adapter sends one request at a time, for web.py alone.
REQUESTS_MODULE = f"{PACKAGE}/source/http/connections.py"


def _module(path: Path) -> str:
    parts = path.relative_to(REPO / "pyapp").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _findings(paths: list[Path], rule: Callable[[str, str], list[str]]) -> list[str]:
    texts = ((path, text_of(path)) for path in paths)
    return [finding for path, text in texts if text is not None for finding in rule(name_of(path), text)]


def _assert_none(findings: list[str]) -> None:
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


def _package() -> list[Path]:
    found = python_files(PACKAGE)
    assert found, f"no Python source below {PACKAGE}"
    return found


def test_imports_point_down() -> None:
    _assert_none([edge for path in _package() for edge in rule_imports.back_edges(_module(path), path.read_text())])


def test_rooms_are_small() -> None:
    rooms = Counter(path.parent for path in _package() if path.name != "__init__.py")
    _assert_none([f"{name_of(room)} has {count} modules" for room, count in rooms.items() if count > MOST_MODULES])


@pytest.mark.parametrize(
    ("forbidden", "homes"),
    [
        (rule_calls.PROCESSES, {PROCESS_MODULE, *GUARD_MODULES, *CONTAIN_MODULES, *GUEST_MODULES, TAKEOVER_MODULE}),
        (rule_calls.EXITS, {EXIT_MODULE, *GUARD_MODULES, *CONTAIN_MODULES, *GUEST_MODULES, TAKEOVER_MODULE}),
        (rule_calls.OUTPUT, {OUTPUT_MODULE}),
        (rule_calls.REQUESTS, {REQUESTS_MODULE}),
    ],
    ids=["processes", "exits", "output", "requests"],
)
def test_calls_stay_in_their_module(forbidden: rule_calls.Pattern, homes: set[str]) -> None:
    outside = [path for path in _package() if name_of(path) not in homes]
    _assert_none(_findings(outside, lambda name, text: [f"{name}:{use}" for use in rule_calls.uses(text, forbidden)]))


def test_hooks_are_short() -> None:
    hooks = [path for path in shell_files("modules.d") if rule_hooks.is_hook(path)]
    assert hooks, "no hook found below modules.d"
    _assert_none(_findings(hooks, rule_hooks.too_long))


def test_sourced_hooks_return() -> None:
    _assert_none(
        _findings([path for path in shell_files("modules.d") if rule_hooks.is_sourced(path)], rule_hooks.exits)
    )


def test_units_have_an_order() -> None:
    units = [path for path in files() if path.suffix == ".service" and path.is_relative_to(REPO / "modules.d")]
    assert units, "no unit found below modules.d"
    _assert_none(_findings(units, rule_units.without_order))


def test_files_are_short() -> None:
    _assert_none(_findings(list(files()), rule_text.too_long))


def test_no_notes_to_self() -> None:
    _assert_none(_findings(list(files()), rule_text.notes))
