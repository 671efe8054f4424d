"""From a registry to a mounted root: against the programs people have, and against what no way can do without.

The image is a Debian server of 790 MiB in four gzip layers; all of it happens in RAM. Every way is measured in turns
with the others; figures are medians of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from tests.bench.conftest import layer_digests
from tests.lib.bench import Figures
from tests.lib.bench_memory import Costs, in_turns
from tests.lib.bench_root import INFLATED_ZSTD, VERIFIED, Floor, Ours, Peer, hidden
from tests.lib.program import Program
from tests.lib.registry import Registry

MIB: Final = 2**20
ROUNDS: Final = 5
INDEX, ZLIB, LZ4, TREE = "index", "index, zlib alone", "erofs, lz4", "tree"
ZSTD = "index, zstd:chunked layers"
PEER_EROFS, PEER_BIND = "peer, EROFS", "peer, bind"
FLOOR, FLOOR_ZSTD, FLOOR_VERIFIED = "floor", "floor, zstd", "floor and digests"
KARGS: Final = {
    INDEX: "",
    ZLIB: "",
    "erofs": "bootc.live.layout=erofs",
    LZ4: "bootc.live.layout=erofs bootc.live.compress=lz4",
    "erofs, zstd": "bootc.live.layout=erofs bootc.live.compress=zstd",
    ZSTD: "",
    TREE: "bootc.live.layout=tree",
    "index on zram": "bootc.zram=4G",
    "tree on zram": "bootc.live.layout=tree bootc.zram=4G",
}


@dataclass(frozen=True)
class Measured:
    """The costs of every way by its name, our ways among them, and the size of the image's layers, inflated."""

    costs: dict[str, Costs]
    ours: dict[str, Ours]
    unpacked: int

    def times(self, slow: str, quick: str) -> float:
        """How many times as long one way takes as another."""
        return self.costs[slow].seconds / self.costs[quick].seconds

    def peak(self, way: str, spare: int) -> float:
        """The peak of a way without `spare` MiB, in parts of the unpacked size."""
        return (self.costs[way].peak - spare * MIB) / self.unpacked


@pytest.fixture(scope="module")
def measured(
    server: Registry, program: Program, figures: Figures, tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    """All ways, measured."""
    where = tmp_path_factory.mktemp("roots")
    source = server.source("os/server:1")
    ours = {name: Ours(program, source, kargs, where / f"ours-{n}") for n, (name, kargs) in enumerate(KARGS.items())}
    ours[ZSTD].source = server.source("os/server:zstd")
    peers = {PEER_EROFS: Peer(source, True, where / "peer"), PEER_BIND: Peer(source, False, where / "peer")}
    urls, zstd_urls = (
        [f"{server.url}/v2/os/server/blobs/{digest}" for digest in layer_digests(server, "os/server", tag)]
        for tag in ("1", "zstd")
    )
    floors = {
        FLOOR: Floor(urls, where / "floor"),
        FLOOR_ZSTD: Floor(zstd_urls, where / "floor", INFLATED_ZSTD),
        FLOOR_VERIFIED: Floor(urls, where / "floor", VERIFIED),
    }
    works: dict[str, Callable[[Costs], None]] = {**ours, **peers, **floors}
    works[ZLIB] = without_libisal(ours[ZLIB])
    # What is read once is in the page cache for all.
    works[FLOOR](Costs())
    costs = dict(zip(works, in_turns(ROUNDS, *works.values()), strict=True))
    made = Measured(costs, ours, ours[INDEX].unpacked)
    figures.add(f"the image: {made.unpacked / MIB:.0f} MiB unpacked, {len(urls)} layers")
    figures.keep("image", {"unpacked": made.unpacked, "layers": len(urls)})
    figures.table(
        "registry to mounted root",
        ("way", "seconds", "spread", "CPU seconds", "fetching begins", "fetching ends", "peak RAM, MiB", "× unpacked"),
        [
            (
                name,
                spent.seconds,
                spent.spread,
                spent.cpu,
                *(ours[name].fetched if name in ours else ("-", "-")),
                spent.peak // MIB,
                spent.peak / made.unpacked,
            )
            for name, spent in made.costs.items()
        ],
    )
    for name, peer in peers.items():
        figures.add(f"steps of {name}: {', '.join(f'{step} {spent} s' for step, spent in peer.steps.items())}")
    for name in KARGS:
        phases = ours[name].receipts[-1]["phases"]
        figures.add(f"phases of {name}: {', '.join(f'{phase} {spent} s' for phase, spent in phases.items())}")
    return made


def without_libisal(work: Ours) -> Callable[[Costs], None]:
    """The same where the library is not installed."""

    def hiding(costs: Costs) -> None:
        with hidden("libisal.so.2"):
            work(costs)

    return hiding


# "Where the time goes" in docs/performance.md has the profile.
BUSY: Final = "both cores are busy while layers are fetched; hashing both sides of them takes half as long as inflating"
PROGRAM: Final = "the program and its parent take 39 to 42 MiB: 20 for code, 9 for the tree of files, 7 for the parent"


def test_index_with_libisal_against_the_peer(measured: Measured, figures: Figures) -> None:
    name = "index with libisal: times as fast as the peer's EROFS"
    figures.bar(name, measured.times(PEER_EROFS, INDEX), 7, least=True, why=BUSY)


def test_index_with_zlib_alone_against_the_peer(measured: Measured, figures: Figures) -> None:
    name = "index with zlib alone: times as fast as the peer's EROFS"
    figures.bar(name, measured.times(PEER_EROFS, ZLIB), 5, least=True, why=BUSY)


def test_index_against_the_floor(measured: Measured, figures: Figures) -> None:
    name = "index: time in parts of the floor's"
    figures.bar(name, measured.times(INDEX, FLOOR), 1.5, least=False, why=BUSY)


def test_fetching_against_the_floor(measured: Measured, figures: Figures) -> None:
    begin, end = measured.ours[INDEX].fetched
    name = "fetching: time in parts of the floor's"
    figures.bar(name, (end - begin) / measured.costs[FLOOR].seconds, 1.25, least=False, why=BUSY)


def test_index_against_the_floor_that_verifies(measured: Measured, figures: Figures) -> None:
    name = "index: time in parts of that of the floor and digests"
    figures.bar(name, measured.times(INDEX, FLOOR_VERIFIED), 1.25, least=False)


def test_fetching_against_the_floor_that_verifies(measured: Measured, figures: Figures) -> None:
    begin, end = measured.ours[INDEX].fetched
    name = "fetching: time in parts of that of the floor and digests"
    figures.bar(name, (end - begin) / measured.costs[FLOOR_VERIFIED].seconds, 1, least=False)


def test_zstd_layers_against_the_floor(measured: Measured, figures: Figures) -> None:
    name = "index of zstd layers: time in parts of the floor's"
    figures.bar(name, measured.times(ZSTD, FLOOR_ZSTD), 1.5, least=False)


def test_what_is_left_after_fetching(measured: Measured, figures: Figures) -> None:
    whole, (_, end) = measured.costs[INDEX].seconds, measured.ours[INDEX].fetched
    name = "index: time after the last layer in parts of the whole"
    why = "fixed costs: the index of 24,740 files and /var, four programs that mount"
    figures.bar(name, (whole - end) / whole, 0.15, least=False, why=why)


def test_memory_of_index(measured: Measured, figures: Figures) -> None:
    name = "index: peak RAM less 32 MiB in parts of the unpacked size"
    figures.bar(name, measured.peak(INDEX, 32), 1.02, least=False, why=PROGRAM)


def test_memory_of_erofs_with_lz4(measured: Measured, figures: Figures) -> None:
    name = "erofs with lz4: peak RAM less 48 MiB in parts of the unpacked size"
    why = f"the copy of the image's /var takes 14 MiB, which an EROFS image keeps; {PROGRAM}"
    figures.bar(name, measured.peak(LZ4, 48), 0.62, least=False, why=why)


def test_tree_against_the_peer(measured: Measured, figures: Figures) -> None:
    figures.bar("tree: times as fast as the peer's bind", measured.times(PEER_BIND, TREE), 2, least=True)


def test_memory_of_tree(measured: Measured, figures: Figures) -> None:
    name = "tree: peak RAM in parts of the unpacked size"
    why = f"files end in the middle of pages: 771 MiB of them take 810; {PROGRAM}"
    figures.bar(name, measured.peak(TREE, 0), 1.08, least=False, why=why)
