"""A pytest plugin: several processes share the tests of a stage, and leave their figures for tests/run.

Every process collects all tests. They are handed out by groups, the dearest first as tests/costs.json has them: a group
belongs to the process that makes its file in the directory BOOTC_LIVE_SHARE. A group is a file of tests, unless a
mark `group` says otherwise. Without that variable the plugin does nothing.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

COSTS: Final = Path(__file__).resolve().parents[1] / "costs.json"
_COUNTED: Final = ("passed", "failed", "error", "skipped", "deselected", "xfailed")


def group_of(item: pytest.Item) -> str:
    """Return the name of the group that a test belongs to."""
    mark = item.get_closest_marker("group")
    return str(mark.args[0]) if mark else item.nodeid.partition("::")[0]


def by_cost(groups: dict[str, list[pytest.Item]], costs: dict[str, float]) -> list[str]:
    """Return the names of groups, the dearest first; what has no recorded cost may be dear."""
    return sorted(groups, key=lambda name: -costs.get(name, float("inf")))


class Share:
    """Runs the groups that no other process has, and counts."""

    def __init__(self, directory: Path, name: str) -> None:
        """Take part in the run of `directory`, as the process `name`."""
        self._directory = directory
        self._name = name
        self._groups: dict[str, str] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run tests as pytest does, but only those of our groups."""
        if session.config.option.collectonly:
            return None
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        groups: dict[str, list[pytest.Item]] = {}
        for item in session.items:
            groups.setdefault(group_of(item), []).append(item)
            self._groups[item.nodeid] = group_of(item)
        mine = self._claimed(groups)
        following = next(mine, None)
        while following is not None:
            # Fixtures that the next test shares are kept, so it has to be known.
            item, following = following, next(mine, None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    def _claimed(self, groups: dict[str, list[pytest.Item]]) -> Iterator[pytest.Item]:
        costs = json.loads(COSTS.read_text()) if COSTS.exists() else {}
        for name in by_cost(groups, costs):
            try:
                (self._directory / f"{name.replace('/', ':')}.taken").open("x").close()
            except FileExistsError:
                continue
            yield from groups[name]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the seconds of a test's set-up, call and teardown."""
        self._seconds[self._groups.get(report.nodeid, report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Leave the number of results of each kind, and the seconds of each group."""
        counts = {kind: len(terminalreporter.stats.get(kind, ())) for kind in _COUNTED}
        told = {"counts": counts, "seconds": self._seconds}
        (self._directory / f"{self._name}.json").write_text(json.dumps(told))


def pytest_configure(config: pytest.Config) -> None:
    """Take part where tests/run asks for it."""
    directory = os.environ.get("BOOTC_LIVE_SHARE")
    if directory:
        config.pluginmanager.register(Share(Path(directory), os.environ["BOOTC_LIVE_WORKER"]))
