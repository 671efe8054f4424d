"""tests/run says no when there is nothing to be glad about, and runs each test once, whoever runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.runner import report
from tests.runner.__main__ import UsageError, parse, show_unfinished
from tests.runner.report import Results
from tests.runner.schedule import Job, Schedule
from tests.runner.stages import ORDINARY, STAGES, everything_needed

TOKENS = "tests/unit/test_tokens.py"


@pytest.mark.parametrize(
    ("argv", "paths", "arguments"),
    [
        ([], {name: [f"tests/{name}"] for name in ORDINARY}, []),
        (["lint"], {"lint": ["tests/lint"]}, []),
        (["vm", "unit"], {"unit": ["tests/unit"], "vm": ["tests/vm"]}, []),
        (["unit", TOKENS], {"unit": [TOKENS]}, []),
        ([TOKENS], {"unit": [TOKENS]}, []),
        ([f"{TOKENS}::test_x[a b]"], {"unit": [f"{TOKENS}::test_x[a b]"]}, []),
        (["lint", "--", "-k", "x"], {"lint": ["tests/lint"]}, ["-k", "x"]),
        (["tests/integration/faults", "--", "-x"], {"integration": ["tests/integration/faults"]}, ["-x"]),
        (["all"], {name: [f"tests/{name}"] for name in STAGES}, ["--long"]),
        (["all", "--", "-x"], {name: [f"tests/{name}"] for name in STAGES}, ["--long", "-x"]),
    ],
)
def test_arguments(argv: list[str], paths: dict[str, list[str]], arguments: list[str]) -> None:
    asked = parse(argv)
    assert asked.paths == paths
    assert asked.arguments == arguments


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["everything"], "neither a stage nor a path"),
        (["tests/unit/test_nothing.py"], "neither a stage nor a path"),
        (["vm", TOKENS], "belongs to the stage unit"),
        (["README.md"], "not below the directory of a stage"),
        (["/"], "not below the directory of a stage"),
        (["tests/lib"], "not below the directory of a stage"),
    ],
)
def test_arguments_that_make_no_sense(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(argv)


def test_usage_and_exit_status(repo: Path) -> None:
    done = subprocess.run([repo / "tests/run", "everything"], cwd="/", check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Usage: tests/run" in done.stderr


def test_what_is_needed_comes_before_what_needs_it() -> None:
    made = everything_needed(list(STAGES.values()))
    names = [one.name for one in made]
    assert all(names.index(need) < names.index(one.name) for one in made for need in one.needs)
    assert everything_needed([STAGES["lint"], STAGES["unit"]]) == []


TOY = """
import os, pathlib, pytest
@pytest.mark.parametrize("number", range(4))
def test_it(number):
    with open(os.environ["RAN"], "a") as file:
        file.write(f"{__name__} {number}\\n")
    assert number != int(os.environ.get("BAD", "9"))
"""


def toy(where: Path) -> list[str]:
    """Return the command of a stage of three files with four tests each."""
    for name in ("a", "b", "c"):
        (where / f"test_{name}.py").write_text(TOY)
    (where / "pytest.ini").write_text("[pytest]\n")
    return [sys.executable, "-m", "pytest", "-q", "-p", "tests.runner.share", "--rootdir", str(where), str(where)]


def run_toy(where: Path, argv: list[str], workers: int, **env: str) -> tuple[Job, Results]:
    """Run a command as a stage; what ran is in `where/ran`."""
    share = where / "share"
    share.mkdir()
    job = Job("toy", argv, workers=workers, env={"BOOTC_LIVE_SHARE": str(share), "RAN": str(where / "ran"), **env})
    Schedule([job], workers, where).run(lambda _: None, lambda _: None)
    return job, report.gather(share, job, may_be_empty=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_share_the_tests(workers: int, tmp_path: Path) -> None:
    job, found = run_toy(tmp_path, toy(tmp_path), workers)
    assert sorted(Counter((tmp_path / "ran").read_text().splitlines()).values()) == [1] * 12
    assert (found.counts["passed"], found.broken) == (12, 0)
    assert sorted(name.rpartition("/")[2] for name in found.seconds) == ["test_a.py", "test_b.py", "test_c.py"]
    assert report.verdict(job, found) == "passed"
    assert not job.failed
    assert len(job.logs) == workers


def test_a_failure_is_one(tmp_path: Path) -> None:
    job, found = run_toy(tmp_path, toy(tmp_path), 2, BAD="2")
    assert (found.counts["failed"], found.counts["passed"]) == (3, 9)
    assert job.failed
    assert report.verdict(job, found) == "FAILED"


@pytest.mark.parametrize(
    "script",
    ["kill -9 $$", "exit 3", "exit 5"],
    ids=["killed", "broken", "without tests"],
)
def test_a_process_that_ran_nothing_is_no_success(script: str, tmp_path: Path) -> None:
    job, found = run_toy(tmp_path, ["sh", "-c", script], 1)
    assert found.broken == 1
    assert report.verdict(job, found).startswith("FAILED")


def test_a_process_that_died_is_a_failure_though_others_went_on(tmp_path: Path) -> None:
    argv = toy(tmp_path)
    script = f'[ "$BOOTC_LIVE_WORKER" = 0 ] && kill -9 $$; exec {" ".join(argv)}'
    job, found = run_toy(tmp_path, ["sh", "-c", script], 2)
    assert job.failed
    assert found.broken == 1
    assert report.verdict(job, found) == "FAILED (signal 9 ended a process)"


def test_a_test_that_hangs_ends_its_process_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_hang.py").write_text("import signal\ndef test_hang():\n    signal.pause()\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfaulthandler_timeout = 1\nfaulthandler_exit_on_timeout = true\n")
    argv = [sys.executable, "-m", "pytest", "-p", "tests.runner.share", "--rootdir", str(tmp_path), str(tmp_path)]
    # A child outlives its parent, unless somebody ends it.
    script = f'sleep 3600 & echo "child $!"; {" ".join(argv)}'
    job, found = run_toy(tmp_path, ["sh", "-c", script], 1)
    said = job.logs[0].read_text()
    assert found.broken == 1
    assert "in test_hang" in said
    child = int(said.partition("child ")[2].split()[0])
    deadline = time.monotonic() + 60
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether a process runs, and is not merely waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_was_interrupted_is_shown(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    jobs = [Job("long", ["sh", "-c", "echo it hangs; exec sleep 3600"]), Job("short", ["true"])]

    def told(_: Job) -> None:
        while not (tmp_path / "long.0.log").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Schedule(jobs, 2, tmp_path).run(told, lambda _: None)
    show_unfinished(jobs)
    said = capfdbinary.readouterr().out.decode()
    assert "long: interrupted" in said
    assert "it hangs" in said
    assert "short" not in said


def test_what_needs_a_failure_is_left_out(tmp_path: Path) -> None:
    jobs = [
        Job("root", ["false"]),
        Job("image", ["touch", str(tmp_path / "made")], ("root",)),
        Job("vm", ["touch", str(tmp_path / "booted")], ("image",)),
        Job("unit", ["touch", str(tmp_path / "unit")]),
    ]
    told: list[str] = []
    Schedule(jobs, 2, tmp_path).run(lambda job: told.append(job.name), lambda _: None)
    assert [job.failed for job in jobs] == [True, True, True, False]
    assert sorted(told) == ["image", "root", "unit", "vm"]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".log"] == ["unit"]
    assert report.verdict(jobs[2], Results()) == "FAILED (what it needs could not be made)"


def test_jobs_run_in_order_and_measurements_alone(tmp_path: Path) -> None:
    order = tmp_path / "order"
    script = f"echo begin $0 >>{order}; echo end $0 >>{order}"
    jobs = [
        Job("image", ["sh", "-c", script, "image"]),
        Job("unit", ["sh", "-c", script, "unit"]),
        Job("bench", ["sh", "-c", script, "bench"], ("image",), alone=True),
        Job("late", ["sh", "-c", script, "late"], ("bench",)),
    ]
    Schedule(jobs, 3, tmp_path).run(lambda _: None, lambda _: None)
    lines = order.read_text().splitlines()
    at = lines.index("begin bench")
    assert lines[at : at + 2] == ["begin bench", "end bench"]
    assert lines.index("end image") < at
    assert lines.index("begin late") > at


def test_what_waits_takes_half_a_place(tmp_path: Path) -> None:
    """Each of the first two ends only when the other one has begun; the third finds no room beside them."""
    meeting = f"echo $0 >>{tmp_path}/order; until grep -q $1 {tmp_path}/order; do sleep 0.05; done"
    jobs = [
        Job("one", ["timeout", "120", "sh", "-c", meeting, "one", "two"], room=0.5),
        Job("two", ["timeout", "120", "sh", "-c", meeting, "two", "one"], room=0.5),
        Job("three", ["sh", "-c", f"echo three >>{tmp_path}/order"]),
    ]
    Schedule(jobs, 1, tmp_path).run(lambda _: None, lambda _: None)
    assert not any(job.failed for job in jobs)
    order = (tmp_path / "order").read_text().split()
    assert (set(order[:2]), order[2:]) == ({"one", "two"}, ["three"])


def test_summary_is_in_the_form_of_pytest() -> None:
    counts = Counter({"passed": 7, "failed": 1, "error": 2, "skipped": 0, "deselected": 3})
    assert report.summary(counts, 12.0) == "====== 1 failed, 7 passed, 3 deselected, 2 errors in 12.00s ======"
    assert "no tests ran" in report.summary(Counter({"deselected": 3}), 1.0)


def test_budgets_and_slowest_groups_are_told() -> None:
    job = Job("unit", ["true"], logs=[Path("x")], statuses=[0], began=0.0, ended=600.0, cpu=60.0)
    table = report.minutes([job], 700.0)
    assert any(line.split()[:2] == ["unit", "10.0"] and "OVER" in line for line in table)
    told = report.slowest({f"group {number}": float(number) for number in range(30)})
    assert len(told) == 21
    assert told[1].split() == ["29.0", "s", "group", "29"]


def test_costs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MEASURED", tmp_path / "costs.json")
    report.keep_costs({"b": 2.04, "a": 1.0})
    report.keep_costs({"b": 3.0})
    assert json.loads((tmp_path / "costs.json").read_text()) == {"a": 1.0, "b": 3.0}


def test_ci_runs_the_whole(repo: Path) -> None:
    script = (repo / ".ci/run").read_text()
    assert script.splitlines()[-1].endswith("exec tests/run")
    assert os.access(repo / ".ci/run", os.X_OK)
