"""A broken transfer goes on where it broke: counted in bytes, on the side of the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.fault_boot import PATIENT, STALLED, boot
from tests.lib.fault_image import NAME, Published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.faults import BLOBS, MIB, End, Fault, Ranges, Rule
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side

KARGS = f"bootc.registry.unsecure {PATIENT}"


def assert_thrifty(faulty: FaultServer, image: Published) -> None:
    """Every blob cost its size and at most a MiB per interruption; all but the large one came in one piece."""
    for blob in image.blobs:
        asked = faulty.asked(blob.digest)
        assert faulty.sent(blob.digest) <= blob.size + MIB * (len(asked) - 1)
        assert asked[0].range == ""
        # No later request begins further back than a MiB before the end of what had come.
        come = 0
        for seen in asked:
            assert come - MIB <= seen.start <= come
            come = seen.start + seen.sent
        assert come >= blob.size


def assert_received(receipt: dict[str, dict[str, int]], image: Published, interruptions: int) -> None:
    """The receipt's own count is right: what was needed, and what was lost on the way."""
    transferred = receipt["bytes"]["transferred"]
    assert image.size <= transferred <= image.size + image.config.size + MIB * interruptions + 100_000


@dataclass(frozen=True)
class Row:
    """Where the large blob breaks off, and how; a negative place counts from its end."""

    after: int
    end: End

    @property
    def name(self) -> str:
        """Both in one word."""
        return f"{self.end.name.lower()}-after-{self.after}"


ROWS = [Row(after, End.CLOSE) for after in (0, 1, 3 * MIB + 12345, -1)]
ROWS += [Row(after, end) for end in (End.RESET, End.SILENCE) for after in (0, 2 * MIB + 1)]


@pytest.mark.parametrize("rows", batches(ROWS))
def test_once(rows: tuple[Row, ...], program: Program, image: Published, tmp_path: Path) -> None:
    def check(row: Row, where: Path) -> None:
        fault = Fault(after=row.after % image.bulk.size, end=row.end)
        with fault_proxy(image.registry, Rule(image.bulk.digest, fault)) as faulty:
            kargs = f"bootc.registry.unsecure {STALLED if row.end is End.SILENCE else PATIENT}"
            receipt = boot(program, faulty.source(NAME), where, kargs).of(image).receipt
            asked = len(faulty.asked(image.bulk.digest))
            # What stands still on a busy machine may be taken for this server.
            assert asked == 2 or (asked > 2 and row.end is End.SILENCE)
            assert_thrifty(faulty, image)
        assert_received(receipt, image, asked - 1)

    side_by_side(rows, check, tmp_path)


def test_again_and_again(program: Program, image: Published, tmp_path: Path) -> None:
    """Each transfer gets some bytes further, so there is no limit to their number."""
    after = 600_000
    with fault_proxy(image.registry, Rule(image.bulk.digest, Fault(after=after), times=None)) as faulty:
        limits = KARGS.replace("tries=5", "tries=2")
        receipt = boot(program, faulty.source(NAME), tmp_path, limits).of(image).receipt
        transfers = len(faulty.asked(image.bulk.digest))
        assert transfers >= image.bulk.size // after
        assert_thrifty(faulty, image)
    assert_received(receipt, image, transfers - 1)


def test_every_blob(program: Program, image: Published, tmp_path: Path) -> None:
    with fault_proxy(image.registry, Rule(BLOBS, Fault(after=50), times=2)) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image)
        assert_thrifty(faulty, image)
        assert all(len(faulty.asked(blob.digest)) == 3 for blob in image.blobs)


def test_finished_blobs_are_left_alone(program: Program, image: Published, tmp_path: Path) -> None:
    """While one blob has a hard time, the others come once."""
    hard = Rule(image.bulk.digest, Fault(after=MIB), times=3)
    with fault_proxy(image.registry, hard, Rule(image.bulk.digest, Fault(status=503))) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image)
        for blob in image.missing([image.bulk]):
            (seen,) = faulty.asked(blob.digest)
            assert (seen.status, seen.sent) == (200, blob.size)


def test_without_ranges_it_begins_again(program: Program, image: Published, tmp_path: Path) -> None:
    rule = Rule(image.bulk.digest, Fault(after=3 * MIB))
    with fault_proxy(image.registry, rule, ranges=Ranges.NONE) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image)
        first, second = faulty.asked(image.bulk.digest)
        assert (first.status, second.status) == (200, 200)
        assert (first.sent, second.sent) == (3 * MIB, image.bulk.size)
