"""Verbs for disks that lose power at any step: what boots next is always whole, and the next run succeeds."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from bootc_live.system.files import sync_filesystem
from tests.lib.disk_machine import Machine, Next, booted, boots_next, disk_image, leftovers, machine
from tests.lib.disks import loop, mounted, run
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive

SEED: Final = random.randrange(2**32)
# Kills at random steps, of each verb.
SOME, MANY = 1, 40
# The source of `upgrade`, and what it is in the end.
OLD, NEW, OTHER = 1, 2, 3


@dataclass(frozen=True)
class Verb:
    """A verb, from a machine that `before` has prepared; what boots next is one of `nexts`, the last in the end.

    ``named`` are patterns of steps that this verb must come to. ``runs`` is the deployment that it believes to run.
    """

    name: str
    command: Callable[[Machine], tuple[str | Path, ...]]
    nexts: tuple[Next | None, ...]
    before: tuple[tuple[str, ...], ...]
    named: tuple[str, ...]
    runs: int | None = None


def _on(*words: str) -> Callable[[Machine], tuple[str | Path, ...]]:
    return lambda one: (*words, *one.options)


def _beside(one: Machine) -> Path:
    """What a machine is switched to."""
    return one.source.with_name("beside.oci")


OBJECTS: Final = (r"os.rename .*/objects/", r"os.rename .*/images/", r"os.rename .*/layers/")
DEPLOYMENT: Final = (
    r"os.mkdir .*/deployments/\.new$",
    r"open .*/\.new/deployment.json",
    r"os.rename .*deployments/\.new ",
)
ENTRY: Final = (
    r"open .*/bootc-live/[0-9a-f]{64}/vmlinuz",
    r"open .*/bootc-live/[0-9a-f]{64}/initrd",
    r"open .*/loader/entries/.*\.conf",
)
SETTINGS: Final = (r"os.rename .*/machine\.json\.new ",)
FIRST, SECOND = Next(OLD, 1), Next(NEW, 2)

VERBS: Final = (
    Verb("install", lambda one: one.install, (None, FIRST), (), (*OBJECTS, *DEPLOYMENT, *ENTRY, *SETTINGS)),
    Verb(
        "upgrade",
        _on("upgrade"),
        (FIRST, SECOND),
        (("install",), ("offer",)),
        (*OBJECTS, *DEPLOYMENT, r"os.mkdir .*/\.new/etc$", *ENTRY),
    ),
    Verb(
        "switch",
        lambda one: ("switch", _beside(one), *one.options),
        (FIRST, SECOND),
        (("install",), ("beside",)),
        (*OBJECTS, *DEPLOYMENT, "libc_call renameat2", *ENTRY),
    ),
    Verb(
        "finalize",
        lambda _: ("upgrade", "--finalize"),
        (SECOND,),
        (("install",), ("offer",), ("upgrade",), ("edit",)),
        (r"os.mkdir .*/etc\.new", "libc_call renameat2", r"os.rmdir .*/etc\.new"),
        runs=1,
    ),
    Verb(
        "rollback",
        _on("rollback", "--to", "1"),
        (SECOND, FIRST),
        (("install",), ("offer",), ("upgrade",)),
        (r"open .*/loader/entries/", r"os.remove .*/loader/entries/bootc-live-1-1"),
    ),
    Verb(
        "health",
        _on("health"),
        (SECOND,),
        (("install",), ("offer",), ("upgrade",)),
        (r"open .*/loader/entries/.*-2\.conf", r"os.remove .*\+3\.conf"),
    ),
    Verb(
        "prune",
        _on("prune", "--keep", "0"),
        (Next(OTHER, 3),),
        (("install",), ("offer",), ("upgrade",), ("health",), ("other",), ("upgrade",)),
        (
            r"os.remove .*/loader/entries/bootc-live-1-1",
            r"os.remove .*/bootc-live/[0-9a-f]{64}/initrd",
            r"os.rmdir .*/bootc-live/[0-9a-f]{64}$",
            r"os.rename .*/deployments/1 .*/\.gone-1",
            r"os.rmdir .*/\.gone-1$",
            r"os.remove .*/images/",
            r"os.remove .*/objects/",
            r"os.remove .*/layers/",
        ),
    ),
)


class Ground:
    """A machine that can be made again as it was."""

    def __init__(self, program: ForkedProgram, one: Machine, directory: Path) -> None:
        self.program, self.machine = program, one
        self._saved = directory / "saved"
        self._saved.mkdir()

    def prepare(self, verb: Verb) -> None:
        """Do what the verb needs before."""
        one = self.machine
        one.offer(disk_image(OLD))
        steps: dict[str, Callable[[], object]] = {
            "install": lambda: self.program.run(*one.install).good(),
            "offer": lambda: one.offer(disk_image(NEW)),
            "beside": lambda: write_archive(_beside(one), disk_image(NEW)),
            "other": lambda: one.offer(disk_image(OTHER)),
            "edit": lambda: (one.deployments / "1/etc/edited").write_text("here\n"),
        }
        for (step,) in verb.before:
            steps.get(step, lambda step=step: self.program.run(step, *one.options).good())()
        for name, top in self._tops:
            run("cp", "-a", top, self._saved / name)

    def again(self) -> None:
        """Let everything be as it was."""
        self.machine.clear()
        for name, top in self._tops:
            run("cp", "-a", f"{self._saved / name}/.", top)
            sync_filesystem(str(top))

    @property
    def _tops(self) -> tuple[tuple[str, Path], ...]:
        return ("disk", self.machine.disk), ("boot", self.machine.boot)


@contextmanager
def _after_power_cut(one: Machine, directory: Path) -> Iterator[Machine]:
    """The same machine with what its devices have now, which is not what its mounted file systems show."""
    copies = [Path(shutil.copy(image, image.with_suffix(".copy"))) for image in one.files]
    with ExitStack() as stack:
        places = [directory / f"again-{number}" for number in range(2)]
        for copy, place in zip(copies, places, strict=True):
            stack.callback(copy.unlink)
            stack.enter_context(mounted(stack.enter_context(loop(copy)), place))
        yield replace(one, disk=places[0], boot=places[1])


def _clear_memory() -> None:
    """Removes what is in RAM, which a power cut empties."""
    shutil.rmtree("/run/bootc-live", ignore_errors=True)
    for path in Path("/tmp").glob("bootc-live-*"):
        shutil.rmtree(path)


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["some", "many"])
@pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])
def test_killed(verb: Verb, count: int, program: ForkedProgram, tmp_path: Path) -> None:
    moments = random.Random(SEED)
    # Data is written later than names, as by other file systems than ext4.
    with machine(tmp_path, options="data=writeback") as one, ExitStack() as stack:
        ground = Ground(program, one, tmp_path)
        ground.prepare(verb)
        if verb.runs is not None:
            stack.enter_context(booted(verb.runs, one, tmp_path))
        command = verb.command(one)
        ended, steps = program.run_to_step(0, *command)
        ended.good()
        named = [_step(steps, pattern) for pattern in verb.named]
        if count == SOME:
            named = moments.sample(named, SOME)
        chosen = [step for first in named for step in (first, first + 1)]
        chosen += [moments.randint(1, len(steps)) for _ in range(count)]
        for number, step in enumerate(chosen):
            told = f"{verb.name}, seed {SEED}, step {step} of {len(steps)}: {steps[step - 1 : step]}"
            ground.again()
            synced = (one.disk, one.boot) if number % 2 else ()
            ended, reached = program.run_to_step(step, *command, synced=synced)
            assert (ended.status, len(reached)) in {(-9, step), (0, step - 1)}, f"{told}\n{ended.stderr}"
            _clear_memory()
            _check(one, verb, told)
            with _after_power_cut(one, tmp_path) as cut:
                _check(cut, verb, f"{told}, after a power cut")
                if verb.runs is None:
                    _again(program, cut, verb, told)
            # What is believed to run is the only disk that has this UUID.
            if verb.runs is not None:
                _again(program, one, verb, told)


def _check(one: Machine, verb: Verb, told: str) -> None:
    try:
        found = boots_next(one.disk, one.boot)
    except (AssertionError, OSError, ValueError) as error:
        raise AssertionError(f"{told}: what boots next is not whole: {error}") from error
    assert found in verb.nexts, told
    if verb.name == "switch" and found == SECOND:
        assert json.loads((one.store / "machine.json").read_text())["source"] == str(_beside(one)), told


def _again(program: ForkedProgram, one: Machine, verb: Verb, told: str) -> None:
    """Run the verb once more: it succeeds, and nothing remains of the first time."""
    ended = program.run(*verb.command(one))
    # An installation that had been finished stays.
    assert ended.status == 0 or "has an installation" in ended.stderr, f"{told}\n{ended.stderr}"
    after = boots_next(one.disk, one.boot)
    assert after is not None
    assert after.image == getattr(verb.nexts[-1], "image", None), told
    if verb.name == "finalize":
        assert (one.deployments / "2/etc/edited").read_text() == "here\n", told
    # What is left on the boot partition is removed by what writes there.
    program.run("health", *one.options).good()
    program.run("prune", "--keep", "9", *one.options).good()
    assert leftovers(one.disk, one.boot) == [], told


def _step(steps: list[str], pattern: str) -> int:
    """Returns the number of the first step that a pattern is for."""
    return next(number for number, step in enumerate(steps, 1) if re.match(pattern, step))
