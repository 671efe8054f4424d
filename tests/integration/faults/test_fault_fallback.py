"""Sources one after the other: the next one is used where the last cannot be, and the receipt says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.dead_servers import closed_port
from tests.lib.fault_boot import IMPATIENT, STALLED_FOR_EVER, Boot, boot
from tests.lib.fault_image import FORGED, NAME, Published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.faults import BLOBS, EVERYTHING, MANIFESTS, MIB, Fault, Rule, Trickle
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side

LIMITS = f"bootc.registry.unsecure {IMPATIENT}"


@pytest.fixture
def second(image: Published) -> Iterator[FaultServer]:
    """A registry without a fault."""
    with fault_proxy(image.registry) as running:
        yield running


def to(*sources: str, limits: str = LIMITS) -> str:
    """The kernel arguments for further sources."""
    return " ".join([limits, *(f"bootc.live.fallback={source}" for source in sources)])


def refusals(booted: Boot, used: str, *others: str) -> list[str]:
    """Why the `others` were not used, in their order, as the receipt has it; `used` comes after them."""
    sources = booted.receipt["sources"]
    assert booted.receipt["source"] == used
    assert [(entry["source"], entry["used"]) for entry in sources] == [
        *((other, False) for other in others),
        (used, True),
    ]
    assert sources[-1]["error"] is None
    errors = [entry["error"] for entry in sources[:-1]]
    assert all(errors)
    return errors


@dataclass(frozen=True)
class Row:
    """What is wrong with the first source, and what the receipt says of it."""

    name: str
    rules: tuple[Rule, ...]
    told: str
    limits: str = LIMITS


STANDS_STILL = f"bootc.registry.unsecure {STALLED_FOR_EVER}"
ROWS = (
    Row("missing", (Rule(MANIFESTS, Fault(status=404), times=None),), "404"),
    Row("silent", (Rule(EVERYTHING, Fault(silent=True), times=None),), "{url}", STANDS_STILL),
    Row("wrong-bytes", (Rule("{last}", Fault(flip=3), times=None),), "{last}"),
    Row("trickling", (Rule("{bulk}", Fault(trickle=Trickle(50, 0.2)), times=None),), "{bulk}", STANDS_STILL),
)


@pytest.mark.parametrize("rows", batches(ROWS))
def test_the_next_source_is_used(rows: tuple[Row, ...], program: Program, image: Published, tmp_path: Path) -> None:
    names = {"bulk": image.bulk.digest, "last": image.last.digest}

    def check(row: Row, where: Path) -> None:
        rules = [Rule(rule.where.format(**names), rule.fault, rule.times) for rule in row.rules]
        with fault_proxy(image.registry, *rules) as first, fault_proxy(image.registry) as second:
            booted = boot(program, first.source(NAME), where, to(second.source(NAME), limits=row.limits)).of(image)
            (error,) = refusals(booted, second.source(NAME), first.source(NAME))
            assert row.told.format(url=first.url, **names) in error
            # On the console, too: the reason can be read where the boot was.
            assert error in booted.ended.stderr

    side_by_side(rows, check, tmp_path)


@pytest.mark.parametrize("fault", [Fault(flip=3), Fault(status=404)], ids=["wrong", "missing"])
def test_finished_blobs_are_not_fetched_again(
    fault: Fault, program: Program, image: Published, second: FaultServer, tmp_path: Path
) -> None:
    """With one processor, layers come one after the other, the largest first: the bad one is the last."""
    one_by_one = Program(program.zipapp, before=["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))])
    smallest = min(image.missing([image.config]), key=lambda blob: blob.size)
    with fault_proxy(image.registry, Rule(smallest.digest, fault, times=None)) as first:
        booted = boot(one_by_one, first.source(NAME), tmp_path, to(second.source(NAME))).of(image)
        for blob in image.missing([smallest]):
            assert (first.sent(blob.digest), second.sent(blob.digest)) == (blob.size, 0)
        assert second.sent(smallest.digest) == smallest.size
    assert booted.receipt["bytes"]["transferred"] <= image.size + image.config.size + smallest.size + 100_000


def test_what_was_right_before_is_not_what_was_wrong(
    program: Program, image: Published, second: FaultServer, tmp_path: Path
) -> None:
    """Of the wrong blob nothing is kept: the fallback gives it from the first byte."""
    with fault_proxy(image.registry, Rule(image.bulk.digest, Fault(flip=4 * MIB), times=None)) as first:
        boot(program, first.source(NAME), tmp_path, to(second.source(NAME))).of(image)
    (seen,) = second.asked(image.bulk.digest)
    assert (seen.start, seen.sent) == (0, image.bulk.size)


def test_first_of_three_that_works(program: Program, image: Published, second: FaultServer, tmp_path: Path) -> None:
    with closed_port() as port, fault_proxy(image.registry) as third:
        dead = f"docker://127.0.0.1:{port}/{NAME}"
        booted = boot(program, dead, tmp_path, to("/nowhere.oci", second.source(NAME), third.source(NAME))).of(image)
        assert third.asked() == []
    sources = booted.receipt["sources"]
    assert [entry["used"] for entry in sources[:3]] == [False, False, True]
    assert f"127.0.0.1:{port}" in sources[0]["error"]
    assert "/nowhere.oci" in sources[1]["error"]


def test_archive_after_a_registry(program: Program, image: Published, tmp_path: Path) -> None:
    """Blobs that came from the registry do not have to be in the archive's turn again; the same image is the same."""
    with fault_proxy(image.registry, Rule(BLOBS, Fault(status=403), times=None)) as first:
        booted = boot(program, first.source(NAME), tmp_path, to(str(image.archive))).of(image)
    (error,) = refusals(booted, str(image.archive), first.source(NAME))
    assert "403" in error


def test_none_of_them(program: Program, image: Published, tmp_path: Path) -> None:
    """One error that names each, so that nobody has to guess which one to mend."""
    with (
        closed_port() as port,
        fault_proxy(image.registry, Rule(image.last.digest, Fault(flip=3), times=None)) as wrong,
    ):
        sources = (wrong.source(NAME), f"docker://127.0.0.1:{port}/{NAME}", "/nowhere.oci")
        booted = boot(program, sources[0], tmp_path, to(*sources[1:]))
        booted.error(*sources, image.last.digest)


def test_pinned_digest_holds_for_all(program: Program, image: Published, second: FaultServer, tmp_path: Path) -> None:
    pin = f"bootc.live.digest={image.digest}"
    forged = second.source(FORGED)
    with fault_proxy(image.registry) as third:
        booted = boot(program, forged, tmp_path, f"{to(third.source(NAME))} {pin}").of(image)
        (error,) = refusals(booted, third.source(NAME), forged)
    assert image.digest in error
    assert second.asked(image.bulk.digest) == []
