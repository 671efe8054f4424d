"""Time and memory grow in a straight line: with bytes, with files, with layers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.bench import Figures
from tests.lib.bench_images import MIB, base, big_files, pushed, small_files
from tests.lib.bench_memory import Costs, in_turns
from tests.lib.bench_root import Ours
from tests.lib.program import Program
from tests.lib.registry import Registry, registry

LAYOUTS: Final = {
    "index": "",
    "erofs, lz4": "bootc.live.layout=erofs bootc.live.compress=lz4",
    "tree": "bootc.live.layout=tree",
}
# A unit may cost that many times as much in the upper part of a table as in the lower one.
STRAIGHT: Final = 1.5
# Less than that, between the ends of a part, is the noise of the measurement.
LEAST_SECONDS: Final = 0.25
LEAST_BYTES: Final = 12 * MIB
# Unpacked, fetched, and in the cache of the registry's files.
_TOUCHED: Final = 8 * 1024 * MIB

Layers = Iterable[Iterable[bytes]]


@dataclass(frozen=True)
class Growth:
    """One table: the sizes, what they count, the layers of an image of a size, and how often each is made a root."""

    unit: str
    sizes: tuple[int, ...]
    layers: Callable[[int], Layers]
    rounds: int

    def __str__(self) -> str:
        """What grows, which names the test."""
        return self.unit


def _bytes(mebibytes: int) -> Layers:
    # Two layers at least, as real images have several: one is inflated beside the next.
    yield [*base()]
    for half in range(2):
        yield big_files(mebibytes * MIB // 2, f"data-{half}")


def _files(count: int) -> Layers:
    yield [*base()]
    yield small_files(count)


def _layers(count: int) -> Layers:
    yield [*base()]
    for number in range(count - 1):
        yield [*big_files(8 * MIB, f"layer-{number}"), *small_files(20, f"layer-{number}/many")]


TABLES: Final = (
    Growth("MiB", (256, 512, 1024, 2048, 4096), _bytes, 2),
    Growth("files", (5_000, 20_000, 50_000, 100_000, 200_000), _files, 3),
    Growth("layers", (1, 25, 50, 100, 200), _layers, 3),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A docker-registry with nothing in it."""
    with registry(tmp_path_factory.mktemp("growth")) as running:
        yield running


@pytest.mark.parametrize("table", TABLES, ids=str)
def test_grows_in_a_straight_line(
    table: Growth, place: Registry, program: Program, figures: Figures, tmp_path: Path
) -> None:
    costs: dict[str, list[Costs]] = {name: [] for name in LAYOUTS}
    for size in table.sizes:
        touch_memory()
        with pushed(place, tmp_path, f"{table.unit.lower()}-{size}", table.layers(size)) as source:
            for name, kargs in LAYOUTS.items():
                costs[name] += in_turns(table.rounds, Ours(program, source, kargs, tmp_path / "ours"))
    figures.table(
        f"growth with {table.unit}",
        (table.unit, *(f"{name}, {what}" for name in LAYOUTS for what in ("s", "MiB"))),
        [
            (size, *(cell for name in LAYOUTS for cell in _cells(costs[name][number])))
            for number, size in enumerate(table.sizes)
        ],
    )
    bent = [line for name, spent in costs.items() for line in _bent(name, table.sizes, spent)]
    assert not bent, f"growth with {table.unit}:\n" + "\n".join(bent)


def touch_memory() -> None:
    """Use as much memory as the largest image takes, once: a virtual machine's first use of each page costs extra time.

    On one, 8 GiB of a tmpfs took 1.15 s per GiB at first, and 0.45 s afterwards.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        piece = bytes(MIB)
        for _ in range(min(_TOUCHED, free // 2) // MIB):
            file.write(piece)


def _cells(spent: Costs) -> tuple[float, int]:
    return spent.seconds, spent.peak // MIB


def _bent(name: str, sizes: tuple[int, ...], spent: list[Costs]) -> Iterator[str]:
    """What costs more a unit from the middle of a table to its end than from the start to the middle.

    Differences have no fixed part in them.
    """
    middle = len(sizes) // 2
    lower, upper = sizes[middle] - sizes[0], sizes[-1] - sizes[middle]
    for what, least, values in (
        ("seconds", LEAST_SECONDS, [cost.seconds for cost in spent]),
        ("bytes of RAM", LEAST_BYTES, [float(cost.peak) for cost in spent]),
    ):
        first = max(values[middle] - values[0], least) / lower
        last = max(values[-1] - values[middle], least) / upper
        if last > STRAIGHT * first:
            yield f"{name}: {what}: {last / first:.2f} times as much a unit in the upper part"
