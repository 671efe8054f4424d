"""What fits, what is refused, what is warned of, and what people are told: as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootc_live.base.errors import AdmissionError, OutOfMemoryError
from bootc_live.base.units import MIB
from bootc_live.config.model import Backing, Compression, Layout, Zram
from bootc_live.image.size.estimate import Estimate, LayerEstimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.rootfs.memory.host import Means, MemoryRoom
from bootc_live.rootfs.memory.need import RESERVE, StorageOption, available_on, machine_for, memory_need, more_memory
from bootc_live.rootfs.plan import RootPlan, arguments, candidates, choose, every_option, likely_need
from bootc_live.rootfs.tree.follower import AHEAD, BEYOND, PUNCH_STEP

TYPED = "docker://registry.example/os"
ALL = Means(frozenset(Compression), zram=True)
PLAIN = Means(frozenset({Compression.NONE}), zram=False)
INDEX, TREE, EROFS = StorageOption(Layout.INDEX), StorageOption(Layout.TREE), StorageOption(Layout.EROFS)
LZ4, ZSTD = StorageOption(Layout.EROFS, Compression.LZ4), StorageOption(Layout.EROFS, Compression.ZSTD)
ON_ZRAM, ON_ZSTD = replace(INDEX, zram=True), replace(INDEX, zram=True, algorithm="zstd")
LZ4_ON_ZRAM = replace(LZ4, zram=True)
NO, L, Z = Compression.NONE, Compression.LZ4, Compression.ZSTD


def an_estimate(unpacked: int = 1000, size: int = 400, *, guessed: bool = False) -> Estimate:
    """Of one layer; sizes in MiB."""
    basis, fewest = (Basis.GUESS, size) if guessed else (Basis.TRAILER, unpacked)
    return Estimate((LayerEstimate("sha256:1", size * MIB, unpacked * MIB, fewest * MIB, basis),))


def a_room(beside_reserve: int, backing: Backing | None = None) -> MemoryRoom:
    """With so many MiB for an image."""
    available = beside_reserve * MIB + RESERVE
    return MemoryRoom(available, available + 200 * MIB, backing or Backing())


def need(option: StorageOption) -> int:
    """Of the image above, in MiB beside the reserve, rounded up."""
    return -(-(likely_need(option, an_estimate()).memory - RESERVE) // MIB)


# Systems as measured: MiB unpacked, and what each option took in the file system at its worst, or of zram.
MEASURED = [
    (195.0, {INDEX: 195.9, EROFS: 194.3, LZ4: 135.0, ZSTD: 117.4, TREE: 214.8, ON_ZRAM: 135.3}),
    (354.7, {INDEX: 354.2, LZ4: 226.0, ZSTD: 187.9, TREE: 380.1, ON_ZRAM: 233.9}),
    (840.6, {INDEX: 843.6, EROFS: 828.8, LZ4: 525.9, ZSTD: 421.7, TREE: 879.5, ON_ZRAM: 538.3}),
    (525.4, {INDEX: 527.2, LZ4: 294.2, ZSTD: 224.0, TREE: 534.1, ON_ZRAM: 311.2}),
    (385.7, {INDEX: 387.6, LZ4: 203.8, ZSTD: 154.7, TREE: 393.4, ON_ZRAM: 207.6}),
]


@pytest.mark.parametrize(
    ("unpacked", "option", "peak"),
    [(unpacked, option, peak) for unpacked, peaks in MEASURED for option, peak in peaks.items()],
)
def test_needs_as_measured(unpacked: float, option: StorageOption, peak: float) -> None:
    """Never less than it took; and at best, not much more, so that nothing is refused that has worked."""
    found = memory_need(option, int(unpacked * MIB))
    assert peak <= found.held / MIB <= unpacked * 1.1 + 20
    assert found.memory == found.held + RESERVE
    assert memory_need(option, int(unpacked * MIB), at_best=True).held / MIB <= peak * 1.03


@pytest.mark.parametrize("option", [*every_option(ALL), LZ4_ON_ZRAM, ON_ZSTD], ids=str)
def test_needs_grow_with_content(option: StorageOption) -> None:
    needs = [memory_need(option, size * MIB).memory for size in (0, 1, 30, 40, 100, 1000)]
    assert needs == sorted(set(needs))
    assert memory_need(option, 1000 * MIB, at_best=True).memory < needs[-1]


@pytest.mark.parametrize(("option", "factor"), [(LZ4, 0.69), (ZSTD, 0.6)], ids=str)
@pytest.mark.parametrize("unpacked", [10, 100, 5000])
def test_there_is_room_for_what_waits(option: StorageOption, factor: float, unpacked: int) -> None:
    """All files but the last came to as much as ever measured, and the last ones wait and will come to nothing."""
    waiting = min(unpacked * MIB, AHEAD + BEYOND)
    assert memory_need(option, unpacked * MIB).stored >= factor * unpacked * MIB + waiting + PUNCH_STEP


def test_needs_of_zram_and_streams() -> None:
    """Compressed data is not compressed again; a stream cannot be compressed on its way."""
    assert memory_need(LZ4_ON_ZRAM, MIB).held >= memory_need(LZ4, MIB).held
    assert memory_need(ON_ZSTD, MIB).held < memory_need(ON_ZRAM, MIB).held < memory_need(INDEX, MIB).held
    assert memory_need(LZ4, 1000 * MIB, streamed=True).stored > 1000 * MIB
    assert memory_need(INDEX, MIB, streamed=True) == memory_need(INDEX, MIB)


# Virtual PCs as measured: MiB of RAM given, and MemAvailable once an image was looked up.
@pytest.mark.parametrize(("given", "available"), [(416, 236), (480, 300), (512, 329), (1024, 760), (4096, 3623)])
def test_machines(given: int, available: int) -> None:
    """They may have a little more than promised, and never less."""
    promised = available_on(given * MIB) / MIB
    assert available - max(40, 0.05 * given) <= promised <= available
    machine = machine_for(available * MIB)
    assert machine % (16 * MIB) == 0
    assert given * MIB <= machine <= max(given + 48, 1.07 * given) * MIB
    assert available_on(machine) >= available * MIB > available_on(machine - 16 * MIB)
    assert available_on(machine + more_memory(MIB)) >= (available + 1) * MIB
    assert available_on(0) == 0


# Kernels, by what they cannot mount.
WITHOUT_ZSTD = frozenset({ZSTD})
DEBIAN_12 = WITHOUT_ZSTD | {INDEX}
EL9 = DEBIAN_12 | {LZ4}
WITHOUT_EROFS = EL9 | {EROFS}


def under(kernel: frozenset[StorageOption], means: Means = ALL) -> Means:
    """The means of a machine whose kernel cannot mount some options."""

    def obstacle(option: StorageOption) -> str:
        if StorageOption(option.layout, option.compress) not in kernel:
            return ""
        return "no EROFS" if kernel is WITHOUT_EROFS else f"no {option}"

    return replace(means, obstacle=obstacle)


NO_LZ4 = Means(frozenset({NO, Z}), zram=False)
FASTEST = "the fastest that fits"


@pytest.mark.parametrize(
    ("means", "layout", "compress", "expected", "chosen", "obstacles", "warned"),
    [
        (ALL, Layout.INDEX, NO, [INDEX], "", "", False),
        (ALL, Layout.INDEX, L, [INDEX], "", "", False),
        (PLAIN, Layout.EROFS, NO, [EROFS], "", "", False),
        # A missing library is not replaced: the layout reports it.
        (PLAIN, Layout.EROFS, Z, [ZSTD], "", "", False),
        (ALL, Layout.TREE, NO, [TREE], "", "", False),
        (ALL, Layout.AUTO, NO, [INDEX, LZ4, ZSTD], FASTEST, "", False),
        (ALL, Layout.AUTO, Z, [INDEX, ZSTD], FASTEST, "", False),
        (NO_LZ4, Layout.AUTO, NO, [INDEX, ZSTD], FASTEST, "", False),
        (PLAIN, Layout.AUTO, NO, [INDEX], FASTEST, "", False),
        (under(WITHOUT_ZSTD), Layout.EROFS, L, [LZ4], "", "", False),
        (under(WITHOUT_ZSTD), Layout.EROFS, Z, [LZ4], "instead of erofs zstd", "; no erofs zstd", True),
        (under(WITHOUT_ZSTD, NO_LZ4), Layout.EROFS, Z, [EROFS], "instead of erofs zstd", "; no erofs zstd", True),
        (under(WITHOUT_ZSTD), Layout.AUTO, NO, [INDEX, LZ4], FASTEST, "; no erofs zstd", False),
        (under(WITHOUT_ZSTD), Layout.AUTO, Z, [INDEX], FASTEST, "; no erofs zstd", False),
        (under(DEBIAN_12), Layout.INDEX, NO, [EROFS], "instead of index", "; no index", False),
        (under(DEBIAN_12), Layout.AUTO, NO, [EROFS, LZ4], FASTEST, "; no index; no erofs zstd", False),
        (under(DEBIAN_12), Layout.AUTO, L, [EROFS, LZ4], FASTEST, "; no index", False),
        (under(EL9), Layout.EROFS, Z, [EROFS], "instead of erofs zstd", "; no erofs zstd; no erofs lz4", True),
        (under(EL9), Layout.AUTO, NO, [EROFS], FASTEST, "; no index; no erofs lz4; no erofs zstd", False),
        (under(WITHOUT_EROFS), Layout.INDEX, NO, [TREE], "instead of index", "; no EROFS", True),
        (under(WITHOUT_EROFS), Layout.EROFS, Z, [TREE], "instead of erofs zstd", "; no EROFS", True),
        (under(WITHOUT_EROFS), Layout.AUTO, NO, [TREE], FASTEST, "; no EROFS", True),
        (under(WITHOUT_EROFS), Layout.TREE, NO, [TREE], "", "", False),
    ],
)
def test_options(
    means: Means,
    layout: Layout,
    compress: Compression,
    expected: list[StorageOption],
    chosen: str,
    obstacles: str,
    *,
    warned: bool,
) -> None:
    found = candidates(layout, compress, means)
    assert (list(found.options), found.chosen, found.obstacles) == (expected, chosen, obstacles)
    assert found.warning == (f"layout {expected[0]} is used, {chosen}{obstacles}" if warned else "")
    on_zram = [replace(option, zram=True, algorithm="zstd") for option in expected]
    assert list(candidates(layout, compress, means, Zram(MIB, "zstd")).options) == on_zram
    checked = [replace(option, verity=option.layout is Layout.EROFS) for option in expected]
    assert list(candidates(layout, compress, means, verity=True).options) == checked
    plan = planned(layout, a_room(2000), compress=compress, means=means)
    assert plan.option == expected[0]
    assert plan.why.startswith(f"layout {expected[0]}{', ' if chosen else ''}{chosen}: needs ")
    assert plan.why.endswith(f" MiB{obstacles}")
    assert refused(layout, a_room(1), compress=compress, means=means).message.endswith(f"MiB are available{obstacles}")


def planned(
    layout: Layout, room: MemoryRoom, estimate: Estimate | None = None, compress: Compression = NO, means: Means = ALL
) -> RootPlan:
    return choose(TYPED, layout, compress, estimate or an_estimate(), room, means)


def refused(
    layout: Layout, room: MemoryRoom, estimate: Estimate | None = None, compress: Compression = NO, means: Means = ALL
) -> AdmissionError:
    with pytest.raises(OutOfMemoryError) as caught:
        planned(layout, room, estimate, compress, means)
    assert isinstance(caught.value, AdmissionError)
    assert repr(TYPED) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("layout", "available", "option"),
    [
        *((layout, 2000, option) for layout, option in ((Layout.INDEX, INDEX), (Layout.TREE, TREE))),
        (Layout.INDEX, 1010, INDEX),
        (Layout.AUTO, 1010, INDEX),
        (Layout.AUTO, 1009, LZ4),
        (Layout.AUTO, need(LZ4), LZ4),
        (Layout.AUTO, need(LZ4) - 1, ZSTD),
        (Layout.AUTO, need(ZSTD), ZSTD),
    ],
)
def test_the_fastest_that_fits(layout: Layout, available: int, option: StorageOption) -> None:
    plan = planned(layout, a_room(available))
    assert (plan.option, plan.warning) == (option, None)
    assert plan.need == likely_need(option, an_estimate())
    assert ("; index needs 1106.0 MiB" in plan.why) is (option in (LZ4, ZSTD))


def test_what_was_begun_is_kept() -> None:
    """Layers that were consumed for one option cannot be had again for another."""
    plan = choose(TYPED, Layout.AUTO, NO, an_estimate(), a_room(2000), ALL, ZSTD)
    assert plan.option == ZSTD
    assert plan.why.startswith("layout erofs zstd, as begun for another source: needs ")


@pytest.mark.parametrize(
    ("layout", "compress", "room", "means", "message", "hint"),
    [
        (
            *(Layout.TREE, NO, a_room(990), ALL),
            "layout tree needs 1200.0 MiB, 1086.0 MiB are available",
            "bootc.live.layout=tree bootc.zram=1216M (874.3 MiB); layout tree needs 128.0 MiB more memory",
        ),
        (
            *(Layout.INDEX, NO, a_room(300), ALL),
            "layout index needs 1106.0 MiB, 396.0 MiB are available",
            "no other layout would fit; the smallest, layout erofs zstd, needs 368.0 MiB more memory",
        ),
        (
            *(Layout.AUTO, NO, a_room(300), ALL),
            "layout erofs zstd needs 723.0 MiB",
            "no other layout would fit; the smallest, layout erofs zstd, needs 368.0 MiB more memory",
        ),
        (
            *(Layout.INDEX, NO, a_room(700), PLAIN),
            "layout index needs",
            "no other layout would fit; the smallest, layout index, needs 352.0 MiB more memory",
        ),
        # Only what can be mounted is proposed.
        (
            *(Layout.INDEX, NO, a_room(750), replace(under(DEBIAN_12), zram=False)),
            "layout erofs needs 1110.0 MiB, 846.0 MiB are available; no index",
            "what would fit: bootc.live.layout=erofs bootc.live.compress=lz4 (813.0 MiB); layout erofs needs",
        ),
        (
            *(Layout.INDEX, NO, a_room(4000, Backing(size=900 * MIB)), PLAIN),
            "layout index needs 1010.0 MiB, 900.0 MiB are allowed by bootc.live.size=",
            "leave bootc.live.size= out, or set it to 1010M; what would fit: bootc.live.layout=erofs (1110.0 MiB)",
        ),
        (
            *(Layout.INDEX, NO, a_room(4000, Backing(zram=Zram(900 * MIB, "zstd"))), under(WITHOUT_EROFS - {INDEX})),
            "layout index on zram needs 1010.0 MiB, 837.0 MiB of that fit into bootc.zram=",
            "or bootc.live.layout=index bootc.zram=1088M (808.0 MiB)",
        ),
        (
            *(Layout.INDEX, NO, a_room(4000, Backing(size=400 * MIB, zram=Zram(2000 * MIB))), ALL),
            "layout index on zram needs 712.0 MiB, 400.0 MiB are allowed by bootc.live.size=",
            "leave bootc.live.size= out, or set it to 713M; what would fit: ",
        ),
        # In a directory on a disk, only the rest is in memory.
        (
            *(Layout.INDEX, NO, replace(a_room(20), free=900 * MIB, on_disk=True), PLAIN),
            "index needs 1010.0 MiB, 900.0 MiB are free in --workdir",
            "no other layout would fit; name a --workdir with more space",
        ),
        (
            *(Layout.INDEX, NO, replace(a_room(20), free=1010 * MIB), PLAIN),
            "index needs 1106.0 MiB, 116.0 MiB are available",
            "no other layout would fit; the smallest, layout index, needs 1104.0 MiB more memory",
        ),
    ],
)
def test_refusals(
    layout: Layout, compress: Compression, room: MemoryRoom, means: Means, message: str, hint: str
) -> None:
    error = refused(layout, room, compress=compress, means=means)
    assert message in error.message
    assert hint in error.hint
    assert ("more memory" in error.hint) is ("are available" in error.message)


def test_a_remedy_works() -> None:
    """Everything proposed is accepted, and a machine with as much more memory is large enough."""
    for available in range(500, 1200, 50):
        room = a_room(available)
        try:
            planned(Layout.TREE, room)
        except AdmissionError as error:
            proposals = [part.partition(" (")[0].rpartition(": ")[2] for part in error.hint.split(", or ")]
            for proposal in proposals if "what would fit" in error.hint else []:
                words = dict(word.split("=") for word in proposal.split())
                size = words.get("bootc.zram", "")[:-1]
                backing = Backing(zram=Zram(int(size) * MIB)) if size else Backing()
                compress, layout = Compression(words.get("bootc.live.compress", "none")), words["bootc.live.layout"]
                assert planned(Layout(layout), a_room(available, backing), compress=compress).warning is None
            more = float(error.hint.rpartition(" needs ")[2].split()[0])
            named = Layout.TREE if "layout tree needs" in error.hint else Layout.AUTO
            # Of more RAM, this part is available.
            assert planned(named, a_room(int(available + 0.9 * more) + 1)).warning is None


@pytest.mark.parametrize(
    ("layout", "room", "option"),
    [
        (Layout.INDEX, replace(a_room(0), free=1010 * MIB, on_disk=True), INDEX),
        (Layout.INDEX, a_room(5000, Backing(size=1010 * MIB)), INDEX),
        (Layout.INDEX, a_room(713, Backing(size=713 * MIB, zram=Zram(1100 * MIB))), ON_ZRAM),
        # How well the algorithm compresses counts.
        (Layout.INDEX, a_room(642, Backing(zram=Zram(2000 * MIB, "zstd"))), ON_ZSTD),
        (Layout.AUTO, a_room(5000, Backing(size=800 * MIB)), LZ4),
    ],
)
def test_limits_that_suffice(layout: Layout, room: MemoryRoom, option: StorageOption) -> None:
    plan = planned(layout, room)
    assert (plan.option, plan.warning) == (option, None)


@pytest.mark.parametrize(
    ("layout", "compress", "room", "estimate", "option", "warning"),
    [
        # The size is a guess; what is to be fetched is known, and nothing unpacks to less.
        (Layout.INDEX, NO, a_room(900), an_estimate(guessed=True), INDEX, "needs 1106.0 MiB, 996.0 MiB are available"),
        (Layout.INDEX, NO, a_room(404), an_estimate(guessed=True), INDEX, "needs 1106.0 MiB, 500.0 MiB are available"),
        # If nothing is sure to fit, the smallest is tried.
        (Layout.AUTO, NO, a_room(500), an_estimate(guessed=True), ZSTD, "layout erofs zstd needs 723.0 MiB"),
        # What there is beside the data, and how well it compresses, are guesses, too.
        (Layout.TREE, NO, a_room(1000), an_estimate(), TREE, "layout tree needs 1200.0 MiB, 1096.0 MiB are available"),
        (Layout.EROFS, L, a_room(500), an_estimate(), LZ4, "layout erofs lz4 needs 813.0 MiB, 596.0 MiB are available"),
        (Layout.AUTO, NO, a_room(450), an_estimate(), ZSTD, "layout erofs zstd needs 723.0 MiB"),
        (Layout.EROFS, L, a_room(450), an_estimate(), None, ""),
        (Layout.INDEX, NO, a_room(399), an_estimate(guessed=True), None, ""),
    ],
)
def test_guesses_are_warned_of(
    layout: Layout,
    compress: Compression,
    room: MemoryRoom,
    estimate: Estimate,
    option: StorageOption | None,
    warning: str,
) -> None:
    if option is None:
        refused(layout, room, estimate, compress)
        return
    plan = planned(layout, room, estimate, compress)
    assert plan.option == option
    assert plan.warning is not None
    assert warning in plan.warning
    assert plan.warning.endswith("continuing: that is partly a guess")


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        (INDEX, "index", "bootc.live.layout=index"),
        (LZ4, "erofs lz4", "bootc.live.layout=erofs bootc.live.compress=lz4"),
        (replace(TREE, zram=True), "tree on zram", "bootc.live.layout=tree bootc.zram=1216M"),
    ],
)
def test_names(option: StorageOption, name: str, words: str) -> None:
    assert str(option) == name
    assert arguments(option, likely_need(option, an_estimate())) == words
