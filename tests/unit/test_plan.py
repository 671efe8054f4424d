"""What fits, what is refused, what is warned of, and what people are told: as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootc_live.base.errors import AdmissionError, OutOfMemoryError
from bootc_live.base.units import MIB, mib
from bootc_live.config.model import Backing, Compression, Layout, Zram
from bootc_live.image.size.estimate import Estimate, LayerEstimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.rootfs.memory.host import Means
from bootc_live.rootfs.memory.machine import Room
from bootc_live.rootfs.memory.need import RESERVE, Content, StorageOption, memory_need
from bootc_live.rootfs.plan import RootPlan, candidates, choose, every_way, least, likely

TYPED = "docker://registry.example/os"
ALL = Means(frozenset(Compression), zram=True)
PLAIN = Means(frozenset({Compression.NONE}), zram=False)
INDEX, TREE, EROFS = StorageOption(Layout.INDEX), StorageOption(Layout.TREE), StorageOption(Layout.EROFS)
LZ4, ZSTD = StorageOption(Layout.EROFS, Compression.LZ4), StorageOption(Layout.EROFS, Compression.ZSTD)
NO, L, Z = Compression.NONE, Compression.LZ4, Compression.ZSTD


def an_estimate(unpacked: int = 1000, size: int = 400, *, guessed: bool = False, streamed: bool = False) -> Estimate:
    """Of one layer; sizes in MiB."""
    basis, fewest = (Basis.GUESS, size) if guessed else (Basis.TRAILER, unpacked)
    return Estimate((LayerEstimate("sha256:1", size * MIB, unpacked * MIB, fewest * MIB, basis),), streamed)


def a_room(available: int, backing: Backing | None = None) -> Room:
    return Room(available * MIB, available * MIB + 200 * MIB, backing or Backing())


def need(way: StorageOption, unpacked: int = 1000, packing: float | None = 0.4) -> int:
    """Of memory, in MiB without the reserve."""
    return (memory_need(way, Content(unpacked * MIB, packing)).memory - RESERVE) // MIB


# Systems as measured: MiB to fetch and unpacked, and what each way took in the file system at its worst, or of zram.
ON_ZRAM = replace(INDEX, zram=True)
MEASURED = [
    (108.3, 195.0, {INDEX: 195.9, EROFS: 194.3, LZ4: 135.0, ZSTD: 117.4, TREE: 214.8, ON_ZRAM: 135.3}),
    (175.9, 354.7, {INDEX: 354.2, LZ4: 226.0, ZSTD: 187.9, TREE: 380.1, ON_ZRAM: 233.9}),
    (388.2, 840.6, {INDEX: 843.6, EROFS: 828.8, LZ4: 525.9, ZSTD: 421.7, TREE: 879.5, ON_ZRAM: 538.3}),
    (196.8, 525.4, {INDEX: 527.2, LZ4: 294.2, ZSTD: 224.0, TREE: 534.1, ON_ZRAM: 311.2}),
    (130.6, 385.7, {INDEX: 387.6, LZ4: 203.8, ZSTD: 154.7, TREE: 393.4, ON_ZRAM: 207.6}),
]


@pytest.mark.parametrize(
    ("fetched", "unpacked", "way", "peak"),
    [(fetched, unpacked, way, peak) for fetched, unpacked, peaks in MEASURED for way, peak in peaks.items()],
)
def test_needs_as_measured(fetched: float, unpacked: float, way: StorageOption, peak: float) -> None:
    """Never less than it took, and not much more."""
    found = memory_need(way, Content(int(unpacked * MIB), fetched / unpacked))
    assert peak <= found.held / MIB <= 1.1 * peak + 20
    assert found.held + RESERVE <= found.memory <= found.held + RESERVE + 0.03 * unpacked * MIB
    assert memory_need(way, Content(int(unpacked * MIB), fetched / unpacked, optimistic=True)).held / MIB <= peak * 1.1


@pytest.mark.parametrize(
    ("way", "low", "high"),
    [(INDEX, 1000, 1020 + 32), (LZ4, 600, 700 + 64), (TREE, 1050, 1250), (replace(LZ4, zram=True), 600, 700 + 64)],
)
def test_needs_are_within_the_bars(way: StorageOption, low: int, high: int) -> None:
    """1.02 times and 32 MiB, 0.7 times and 64 MiB, 1.25 times; packed once, it is not packed again."""
    assert low <= need(way) <= high


@pytest.mark.parametrize("way", [*every_way(ALL), replace(LZ4, zram=True)], ids=str)
def test_needs_grow_with_content(way: StorageOption) -> None:
    assert need(way, 1000) < need(way, 2000)
    # Data that is packed already takes what it has.
    assert need(way, packing=0.3) <= need(way, packing=0.9) <= need(way, packing=50.0) <= 1300
    assert need(way, packing=None) == need(way, packing=0.42)


def test_a_stream_cannot_be_packed_on_its_way() -> None:
    content = Content(1000 * MIB, 0.4)
    assert memory_need(LZ4, replace(content, streamed=True)).memory > memory_need(INDEX, content).memory
    assert memory_need(INDEX, replace(content, streamed=True)) == memory_need(INDEX, content)


@pytest.mark.parametrize(
    ("layout", "compress", "means", "expected"),
    [
        (Layout.INDEX, NO, ALL, [INDEX]),
        (Layout.INDEX, L, ALL, [INDEX]),
        (Layout.EROFS, NO, PLAIN, [EROFS]),
        # What was asked for is not replaced: that it cannot be had is for its maker to say.
        (Layout.EROFS, Z, PLAIN, [ZSTD]),
        (Layout.TREE, NO, ALL, [TREE]),
        (Layout.AUTO, NO, ALL, [INDEX, LZ4, ZSTD]),
        (Layout.AUTO, Z, ALL, [INDEX, ZSTD]),
        (Layout.AUTO, NO, Means(frozenset({NO, Z}), zram=False), [INDEX, ZSTD]),
        (Layout.AUTO, NO, PLAIN, [INDEX]),
    ],
)
def test_ways(layout: Layout, compress: Compression, means: Means, expected: list[StorageOption]) -> None:
    found = candidates(layout, compress, means)
    assert list(found.ways) == expected
    assert found.chosen == ("the fastest that fits" if layout is Layout.AUTO else "as asked for")
    assert (found.obstacles, found.warning) == ("", "")
    on_zram = [replace(way, zram=True, algorithm="zstd") for way in expected]
    assert list(candidates(layout, compress, means, Zram(MIB, "zstd")).ways) == on_zram


# Kernels, by what they cannot mount.
CURRENT: frozenset[StorageOption] = frozenset()
WITHOUT_ZSTD = frozenset({ZSTD})
DEBIAN_12 = WITHOUT_ZSTD | {INDEX}
EL9 = DEBIAN_12 | {LZ4}
WITHOUT_EROFS = EL9 | {EROFS}


def under(kernel: frozenset[StorageOption], means: Means = ALL) -> Means:
    """The means of a machine whose kernel cannot mount some ways."""

    def obstacle(way: StorageOption) -> str:
        if StorageOption(way.layout, way.compress) not in kernel:
            return ""
        return "no EROFS" if kernel is WITHOUT_EROFS else f"no {way}"

    return replace(means, obstacle=obstacle)


@pytest.mark.parametrize(
    ("kernel", "layout", "compress", "expected", "chosen", "obstacles", "warned"),
    [
        (WITHOUT_ZSTD, Layout.INDEX, NO, [INDEX], "as asked for", "", False),
        (WITHOUT_ZSTD, Layout.EROFS, L, [LZ4], "as asked for", "", False),
        (WITHOUT_ZSTD, Layout.EROFS, Z, [LZ4], "instead of erofs zstd", "; no erofs zstd", True),
        (WITHOUT_ZSTD, Layout.AUTO, NO, [INDEX, LZ4], "the fastest that fits", "; no erofs zstd", False),
        (WITHOUT_ZSTD, Layout.AUTO, Z, [INDEX], "the fastest that fits", "; no erofs zstd", False),
        (DEBIAN_12, Layout.INDEX, NO, [EROFS], "instead of index", "; no index", False),
        (DEBIAN_12, Layout.EROFS, NO, [EROFS], "as asked for", "", False),
        (DEBIAN_12, Layout.AUTO, NO, [EROFS, LZ4], "the fastest that fits", "; no index; no erofs zstd", False),
        (DEBIAN_12, Layout.AUTO, L, [EROFS, LZ4], "the fastest that fits", "; no index", False),
        (DEBIAN_12, Layout.TREE, NO, [TREE], "as asked for", "", False),
        (EL9, Layout.INDEX, NO, [EROFS], "instead of index", "; no index", False),
        (EL9, Layout.EROFS, Z, [EROFS], "instead of erofs zstd", "; no erofs zstd; no erofs lz4", True),
        (EL9, Layout.EROFS, L, [EROFS], "instead of erofs lz4", "; no erofs lz4", True),
        (EL9, Layout.AUTO, NO, [EROFS], "the fastest that fits", "; no index; no erofs lz4; no erofs zstd", False),
        (WITHOUT_EROFS, Layout.INDEX, NO, [TREE], "instead of index", "; no EROFS", True),
        (WITHOUT_EROFS, Layout.EROFS, Z, [TREE], "instead of erofs zstd", "; no EROFS", True),
        (WITHOUT_EROFS, Layout.AUTO, NO, [TREE], "the fastest that fits", "; no EROFS", True),
        (WITHOUT_EROFS, Layout.TREE, NO, [TREE], "as asked for", "", False),
    ],
)
def test_what_the_kernel_cannot_mount(
    kernel: frozenset[StorageOption],
    layout: Layout,
    compress: Compression,
    expected: list[StorageOption],
    chosen: str,
    obstacles: str,
    *,
    warned: bool,
) -> None:
    means = under(kernel)
    found = candidates(layout, compress, means)
    assert (list(found.ways), found.chosen, found.obstacles) == (expected, chosen, obstacles)
    assert found.warning == (f"layout {expected[0]} is taken, {chosen}{obstacles}" if warned else "")
    choice = choose(TYPED, layout, compress, an_estimate(), a_room(2000), means)
    assert choice.option == expected[0]
    assert choice.why.startswith(f"layout {expected[0]}, {chosen}: needs ")
    assert choice.why.endswith(f"of 2000.0 MiB{obstacles}")
    error = refused(layout, a_room(1), means=means, compress=compress)
    assert error.message.endswith(f"MiB are available{obstacles}")
    on_zram = choose(TYPED, layout, compress, an_estimate(), a_room(2000, Backing(zram=Zram(2000 * MIB))), means)
    assert on_zram.option == replace(expected[0], zram=True)


def test_only_what_can_be_mounted_is_proposed() -> None:
    assert every_way(under(DEBIAN_12)) == [EROFS, LZ4, TREE, replace(TREE, zram=True)]
    error = refused(Layout.INDEX, a_room(reserve(750)), means=under(DEBIAN_12))
    assert "layout erofs needs" in error.message
    assert "what would fit: bootc.live.layout=erofs bootc.live.compress=lz4" in error.hint
    assert "zstd" not in error.hint
    assert "layout=index" not in error.hint


def test_a_library_that_is_missing_is_no_substitute() -> None:
    found = candidates(Layout.EROFS, Z, under(WITHOUT_ZSTD, Means(frozenset({NO, Z}), zram=False)))
    assert found.ways == (EROFS,)


def test_what_was_begun_is_kept() -> None:
    """Layers that were used up on one way cannot be had again for another."""
    choice = choose(TYPED, Layout.AUTO, NO, an_estimate(), a_room(2000), ALL, ZSTD)
    assert choice.option == ZSTD
    assert choice.why.startswith("layout erofs zstd, as begun for another source: needs ")
    with pytest.raises(AdmissionError, match="layout erofs lz4 needs"):
        choose(TYPED, Layout.AUTO, NO, an_estimate(), a_room(reserve(need(ZSTD) + 1)), ALL, LZ4)


def chosen(
    layout: Layout,
    room: Room,
    estimate: Estimate | None = None,
    compress: Compression = NO,
    means: Means = ALL,
) -> RootPlan:
    return choose(TYPED, layout, compress, estimate or an_estimate(), room, means)


def reserve(mib: int) -> int:
    """With the reserve, in MiB."""
    return mib + RESERVE // MIB


@pytest.mark.parametrize(
    ("layout", "available", "way"),
    [
        (Layout.INDEX, 2000, INDEX),
        (Layout.INDEX, 1010, INDEX),
        (Layout.TREE, 2000, TREE),
        (Layout.EROFS, 2000, EROFS),
        (Layout.AUTO, 2000, INDEX),
        (Layout.AUTO, 1010, INDEX),
        (Layout.AUTO, 1009, LZ4),
        (Layout.AUTO, need(LZ4) + 1, LZ4),
        (Layout.AUTO, need(LZ4) - 1, ZSTD),
        (Layout.AUTO, need(ZSTD) + 1, ZSTD),
    ],
)
def test_the_fastest_that_fits(layout: Layout, available: int, way: StorageOption) -> None:
    choice = chosen(layout, a_room(reserve(available)))
    assert choice.option == way
    assert choice.warning is None
    assert choice.need == memory_need(way, likely(an_estimate()))
    assert ("the fastest that fits" if layout is Layout.AUTO else "as asked for") in choice.why
    assert (f"index needs {reserve(1010)}.0 MiB" in choice.why) is (choice.option.layout is not layout and way != INDEX)


def refused(
    layout: Layout,
    room: Room,
    estimate: Estimate | None = None,
    means: Means = ALL,
    compress: Compression = NO,
) -> AdmissionError:
    with pytest.raises(OutOfMemoryError) as caught:
        chosen(layout, room, estimate, compress, means)
    assert isinstance(caught.value, AdmissionError)
    assert repr(TYPED) in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("layout", "available", "way", "fitting"),
    [
        # A tree is larger than an index, and what is packed smaller.
        (Layout.TREE, 1060, TREE, ["index", "erofs bootc.live.compress=lz4", "bootc.zram="]),
        (Layout.INDEX, 700, INDEX, ["erofs bootc.live.compress=lz4", "erofs bootc.live.compress=zstd"]),
        (Layout.EROFS, 1010, EROFS, ["index", "erofs bootc.live.compress=zstd"]),
        (Layout.INDEX, 300, INDEX, []),
        (Layout.AUTO, 300, ZSTD, []),
        (Layout.TREE, 0, TREE, []),
    ],
)
def test_refusals(layout: Layout, available: int, way: StorageOption, fitting: list[str]) -> None:
    error = refused(layout, a_room(reserve(available)))
    needed = mib(memory_need(way, likely(an_estimate())).memory)
    assert f"layout {way} needs {needed}, {reserve(available)}.0 MiB are available" in error.message
    for text in fitting:
        assert f"bootc.live.layout={text}" in error.hint or text in error.hint
    assert ("no other layout would fit" in error.hint) is (not fitting)
    assert "needs a machine with" in error.hint


def test_a_remedy_works() -> None:
    """Whatever is proposed is accepted, and the machine that is named is large enough."""
    for available in range(600, 1300, 50):
        room = a_room(available)
        try:
            chosen(Layout.TREE, room)
        except AdmissionError as error:
            proposals = [part.partition(" (")[0].rpartition(": ")[2] for part in error.hint.split(", or ")]
            for proposal in proposals if "what would fit" in error.hint else []:
                words = dict(word.split("=") for word in proposal.split())
                backing = (
                    Backing(zram=Zram(int(words["bootc.zram"][:-1]) * MIB)) if "bootc.zram" in words else Backing()
                )
                compress = Compression(words.get("bootc.live.compress", "none"))
                layout = Layout(words["bootc.live.layout"])
                assert chosen(layout, a_room(available, backing), compress=compress).warning is None
            larger = int(error.hint.rpartition("machine with ")[2].split()[0])
            assert chosen(Layout.TREE, a_room(larger - 200)).warning is None
            assert larger < 2500


def test_only_what_is_there_is_proposed() -> None:
    error = refused(Layout.INDEX, a_room(reserve(700)), means=PLAIN)
    assert "no other layout would fit" in error.hint
    assert "zram" not in error.hint
    assert "compress" not in error.hint


@pytest.mark.parametrize(
    ("backing", "message", "hint"),
    [
        (Backing(size=900 * MIB), "needs 1010.0 MiB, 900.0 MiB are allowed by bootc.live.size=", "set it to 1010M"),
        (Backing(zram=Zram(900 * MIB)), "needs 1010.0 MiB, 837.0 MiB of that fit into bootc.zram=", "bootc.zram=1088M"),
        (Backing(size=400 * MIB, zram=Zram(2000 * MIB)), "400.0 MiB are allowed by bootc.live.size=", "set it to 636M"),
    ],
)
def test_limits_that_were_set(backing: Backing, message: str, hint: str) -> None:
    error = refused(Layout.INDEX, a_room(5000, backing))
    assert message in error.message
    assert hint in error.hint
    assert "machine with" not in error.hint


def test_a_directory_that_was_chosen() -> None:
    """What lies on a disk takes no memory, but has to fit there."""
    room = replace(a_room(reserve(20)), free=1010 * MIB, on_disk=True)
    assert chosen(Layout.INDEX, room).option == INDEX
    error = refused(Layout.INDEX, replace(room, free=900 * MIB))
    assert "index needs 1010.0 MiB, 900.0 MiB are free in --workdir" in error.message
    assert "name a --workdir with more space" in error.hint
    assert "compress=lz4" in error.hint
    # In RAM it takes both.
    assert "are available" in refused(Layout.INDEX, replace(room, on_disk=False)).message


def test_how_zram_compresses_counts() -> None:
    room = a_room(reserve(550), Backing(zram=Zram(2000 * MIB, "zstd")))
    assert chosen(Layout.INDEX, room).option.algorithm == "zstd"
    assert "index on zram" in refused(Layout.INDEX, a_room(reserve(550), Backing(zram=Zram(2000 * MIB)))).message


def test_limits_that_suffice() -> None:
    assert chosen(Layout.INDEX, a_room(5000, Backing(size=1010 * MIB))).option == INDEX
    packed = Backing(size=640 * MIB, zram=Zram(1100 * MIB))
    assert chosen(Layout.INDEX, a_room(reserve(640), packed)).option == StorageOption(Layout.INDEX, zram=True)
    assert chosen(Layout.AUTO, a_room(5000, Backing(size=800 * MIB))).option == LZ4


def test_guesses_are_warned_of() -> None:
    guess = an_estimate(guessed=True)
    choice = chosen(Layout.INDEX, a_room(reserve(900)), guess)
    assert choice.option == INDEX
    assert choice.warning is not None
    assert f"index needs {reserve(1010)}.0 MiB, {reserve(900)}.0 MiB are available" in choice.warning
    assert "guessed" in choice.warning
    # What is to be fetched is known, and nothing unpacks to less.
    assert f"needs {reserve(1010)}.0 MiB" in refused(Layout.INDEX, a_room(reserve(400)), guess).message
    assert chosen(Layout.INDEX, a_room(reserve(404)), guess).warning is not None


def test_auto_takes_the_smallest_where_nothing_is_sure() -> None:
    choice = chosen(Layout.AUTO, a_room(reserve(500)), an_estimate(guessed=True))
    assert choice.option == ZSTD
    assert choice.warning is not None


def test_how_well_it_packs_is_partly_a_guess() -> None:
    exact = an_estimate()
    assert memory_need(LZ4, least(exact)).memory < memory_need(LZ4, likely(exact)).memory
    assert memory_need(INDEX, least(exact)) == memory_need(INDEX, likely(exact))
    choice = chosen(Layout.EROFS, a_room(reserve(need(LZ4) - 5)), compress=L)
    assert choice.warning is not None


@pytest.mark.parametrize(
    ("way", "name", "arguments"),
    [
        (INDEX, "index", "bootc.live.layout=index"),
        (LZ4, "erofs lz4", "bootc.live.layout=erofs bootc.live.compress=lz4"),
        (replace(TREE, zram=True), "tree on zram", "bootc.live.layout=tree"),
    ],
)
def test_names(way: StorageOption, name: str, arguments: str) -> None:
    assert str(way) == name
    assert way.arguments == arguments
