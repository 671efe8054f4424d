"""Archives on web servers that misbehave: with ranges and without, the boot is right or ends with one error."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.fault_boot import PATIENT, STALLED, STALLED_FOR_EVER, boot
from tests.lib.fault_files import Files
from tests.lib.fault_image import Published
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.faults import EVERYTHING, MIB, End, Fault, Ranges, Rule, Script
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side
from tests.lib.token_gate import TokenGate

PLACE = "/images/root.oci"
PASSWORD = "open-sesame-17"


@dataclass(frozen=True)
class Row:
    """Faults of a web server, and what the error names; if that is None, the image boots."""

    name: str
    rules: tuple[Rule, ...]
    told: tuple[str, ...] | None = None
    kargs: str = PATIENT
    ranges: Ranges = Ranges.HONEST


def first(fault: Fault, times: int = 1, spared: int = 0) -> tuple[Rule, ...]:
    return (Rule(EVERYTHING, fault, times=times, spared=spared),)


def always(fault: Fault) -> tuple[Rule, ...]:
    return (Rule(EVERYTHING, fault, times=None),)


ROWS = (
    Row("no-answer", first(Fault(silent=True, end=End.CLOSE), times=2)),
    Row("reset", (Rule(EVERYTHING, Fault(after=300_000, end=End.RESET), times=2),)),
    Row("silence-in-the-body", first(Fault(after=1000, end=End.SILENCE)), kargs=STALLED),
    Row("silence-without-ranges", first(Fault(after=2 * MIB, end=End.SILENCE)), kargs=STALLED, ranges=Ranges.NONE),
    Row("never-an-answer", always(Fault(silent=True)), (), STALLED_FOR_EVER),
    Row("cut-short-without-ranges", always(Fault(short=2 * MIB)), (), ranges=Ranges.NONE),
    Row("login-page-of-a-network", always(Fault(body=b"<html>Log in</html>")), ()),
)


def serving(image: Published, *rules: Rule, ranges: Ranges = Ranges.HONEST) -> AbstractContextManager[FaultServer]:
    """A web server that has the image's archive at `PLACE`."""
    return fault_server(Files({PLACE: image.archive}), Script(rules), ranges=ranges)


@pytest.mark.parametrize("rows", batches(ROWS))
def test_faults(rows: tuple[Row, ...], program: Program, image: Published, tmp_path: Path) -> None:
    def check(row: Row, where: Path) -> None:
        with serving(image, *row.rules, ranges=row.ranges) as faulty:
            url = f"{faulty.url}{PLACE}"
            booted = boot(program, url, where, row.kargs)
            if row.told is None:
                booted.of(image)
            else:
                booted.error(url, *row.told)

    side_by_side(rows, check, tmp_path)


def test_password_of_an_address_works_and_stays_there(program: Program, image: Published, tmp_path: Path) -> None:
    gate = TokenGate(login=("somebody", PASSWORD), basic=True)
    with serving(image) as storage:
        moved = Script((Rule(EVERYTHING, Fault(redirect=storage.url), times=None),))
        with fault_server(Files({}), moved, guard=gate) as faulty:
            url = f"http://somebody:{PASSWORD}@{faulty.host}{PLACE}"
            boot(program, url, tmp_path, PATIENT).of(image).without(PASSWORD)
        assert not any(seen.authorization for seen in storage.asked())
