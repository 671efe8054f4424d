"""Plan a root: whether an image fits into RAM, and which layout it gets, before the first byte of a layer is fetched.

Only what is known to be too large is refused. Where a part of the size is a guess, a lack is a warning: a boot that
might have worked must not fail because somebody guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bootc_live.base.errors import AdmissionError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB, mib
from bootc_live.config.model import Backing, Compression, Config, Layout, Zram
from bootc_live.image.candidate import Candidate
from bootc_live.image.size.estimate import Estimate, estimate
from bootc_live.rootfs.memory.host import Means
from bootc_live.rootfs.memory.machine import Room, larger_machine
from bootc_live.rootfs.memory.need import ZRAM_USABLE, Content, MemoryNeed, StorageOption, memory_need

_PACKED = (Compression.LZ4, Compression.ZSTD)
# What is taken instead of a compression that cannot be mounted.
_LIGHTER = {Compression.ZSTD: (Compression.LZ4, Compression.NONE), Compression.LZ4: (Compression.NONE,)}
_BY_MEMORY = "are available"
_BY_SIZE = "are allowed by bootc.live.size="
_BY_FREE = "are free in --workdir"
_BY_ZRAM = "of that fit into bootc.zram="
# Sizes that are proposed are multiples of this.
_ROUND = 64 * MIB


@dataclass(frozen=True)
class RootPlan:
    """How a root will be built: decided once for each source, and nothing later decides it again.

    ``need`` is what it is likely to need, ``why`` the reason for a person, ``warning`` what may go wrong. The plan
    follows from ``estimate``, the image's sizes, and ``room``, the memory there was.
    """

    option: StorageOption
    need: MemoryNeed
    why: str
    estimate: Estimate
    room: Room
    warning: str | None = None


@dataclass(frozen=True)
class Lack:
    """What is not enough: ``needed`` bytes of something, ``there`` bytes of it there."""

    needed: int
    there: int
    what: str = _BY_MEMORY

    def __str__(self) -> str:
        """Give both in MiB."""
        return f"needs {mib(self.needed)}, {mib(self.there)} {self.what}"


@dataclass(frozen=True)
class Candidates:
    """The ways that a layout stands for, fastest first.

    ``chosen`` relates them to what was asked for; ``obstacles`` is why others are not among them, as it follows a
    sentence; ``warning`` tells of it where something else is taken that takes more memory, or gives something else.
    """

    ways: tuple[StorageOption, ...]
    chosen: str
    obstacles: str = ""
    warning: str = ""


def candidates(layout: Layout, compress: Compression, means: Means, zram: Zram | None = None) -> Candidates:
    """Return the ways that a layout stands for and that can be mounted: at least one.

    For what cannot be mounted stands what comes next: for an index the erofs layout, for a compression a lighter one,
    for all of EROFS the tree. ``auto`` takes the tree only then: whoever needs real files asks for them.
    """
    obstacles: dict[str, None] = {}

    def can(way: StorageOption) -> bool:
        obstacle = means.obstacle(way)
        if obstacle:
            obstacles[obstacle] = None
        return not obstacle

    def first(tried: Sequence[StorageOption]) -> list[StorageOption]:
        return next(([way] for way in tried if can(way)), [])

    asked = StorageOption(layout, compress if layout is Layout.EROFS else Compression.NONE)
    if layout is Layout.AUTO:
        wanted = _PACKED if compress is Compression.NONE else (compress,)
        packed = [StorageOption(Layout.EROFS, each) for each in wanted if each in means.compressions]
        found = [*first((StorageOption(Layout.INDEX), StorageOption(Layout.EROFS))), *filter(can, packed)]
    else:
        lighter = [each for each in _LIGHTER.get(compress, ()) if each in means.compressions]
        erofs = [StorageOption(Layout.EROFS, each) for each in (compress, *lighter)]
        tried = {Layout.INDEX: [asked, *erofs], Layout.EROFS: erofs}
        found = first(tried.get(layout, ()))
    found = found or [StorageOption(Layout.TREE)]
    if layout is Layout.AUTO:
        chosen, notable = "the fastest that fits", found[0].layout is Layout.TREE
    else:
        chosen = "as asked for" if found[0] == asked else f"instead of {asked}"
        # The erofs layout gives the same as an index, a little later.
        notable = found[0] != asked and (layout, found[0].layout) != (Layout.INDEX, Layout.EROFS)
    because = "".join(f"; {obstacle}" for obstacle in obstacles)
    warning = f"layout {found[0]} is taken, {chosen}{because}" if notable else ""
    if zram is not None:
        found = [replace(way, zram=True, algorithm=zram.algorithm) for way in found]
    return Candidates(tuple(found), chosen, because, warning)


def choose(
    typed: str,
    layout: Layout,
    compress: Compression,
    estimated: Estimate,
    room: Room,
    means: Means,
    begun: StorageOption | None = None,
) -> RootPlan:
    """Return a plan for the first way of a layout that fits.

    Raise AdmissionError where none can, naming those that would. ``typed`` is the image as it was written, for
    messages; ``begun`` is the only way that can still be taken.
    """
    found = candidates(layout, compress, means, room.backing.zram)
    if begun is not None:
        found = Candidates((begun,), "as begun for another source")
    needs = [(way, memory_need(way, likely(estimated))) for way in found.ways]
    for number, (way, need) in enumerate(needs):
        if lack(way, need, room) is None:
            return RootPlan(way, need, _why(way, need, room, found, needs[:number]), estimated, room)
    possible = [each for each in needs if lack(each[0], memory_need(each[0], least(estimated)), room) is None]
    way, need = min(possible or needs, key=lambda each: each[1].memory)
    short = lack(way, need, room)
    assert short is not None, "it would have been chosen"
    if not possible:
        raise AdmissionError(
            f"{typed!r} does not fit into memory: layout {way} {short}{found.obstacles}",
            hint=_remedy(way, need, short, estimated, room, means),
        )
    return RootPlan(
        way,
        need,
        f"layout {way}: nothing is sure to fit{found.obstacles}",
        estimated,
        room,
        f"{typed!r} may not fit into memory: layout {way} {short}; going on, because that is partly guessed",
    )


def plan_root(
    candidate: Candidate, config: Config, room: Room, means: Means, begun: StorageOption | None, recorder: Recorder
) -> RootPlan:
    """Return the plan for the image of a source, and say it; raise as ``choose``.

    ``begun`` is the only way that can still be taken, after layers of another source were consumed for it.
    """
    with recorder.phase("estimate", "looking how large the image is"):
        estimated = estimate(candidate.source, candidate.image)
    # A small guess is not worth a word.
    guessed = f" ({mib(estimated.guessed)} of that are guessed)" if estimated.guessed > MIB else ""
    recorder.say(f"{mib(estimated.size)} to fetch, {mib(estimated.unpacked)} unpacked{guessed}")
    plan = choose(candidate.image.typed, config.layout, config.compress, estimated, room, means, begun)
    recorder.say(plan.why)
    if plan.warning is not None:
        recorder.warn(plan.warning)
    return plan


def check_options(config: Config, means: Means, recorder: Recorder) -> None:
    """Warn of what was asked for and cannot be mounted here; raise RootfsError where nothing else is allowed."""
    warning = candidates(config.layout, config.compress, means).warning
    if warning and config.erofs_digest is not None:
        raise RootfsError(
            f"'bootc.live.erofs.digest={config.erofs_digest}' allows nothing else, but {warning}",
            hint="use a kernel that can, or pin an image with a compression that this one has",
        )
    if warning:
        recorder.warn(warning)


def likely(estimated: Estimate) -> Content:
    """Give the content as it will be, as far as known."""
    return Content(estimated.unpacked, estimated.packing, estimated.streamed)


def least(estimated: Estimate) -> Content:
    """Give the content if every guess was too high."""
    return Content(estimated.least, estimated.packing, estimated.streamed, optimistic=True)


def lack(way: StorageOption, need: MemoryNeed, room: Room) -> Lack | None:
    """Give what is not enough for a way, None where all is."""
    zram = room.backing.zram if way.zram else None
    if zram is not None and need.stored > zram.size * ZRAM_USABLE:
        return Lack(need.stored, int(zram.size * ZRAM_USABLE), _BY_ZRAM)
    if room.backing.size is not None and need.held > room.backing.size:
        return Lack(need.held, room.backing.size, _BY_SIZE)
    if room.free is not None and need.stored > room.free:
        return Lack(need.stored, room.free, _BY_FREE)
    memory = need.memory - (need.held if room.on_disk else 0)
    return Lack(memory, room.available) if memory > room.available else None


def every_way(means: Means) -> list[StorageOption]:
    """Give all ways there are, fastest first."""
    packed = [StorageOption(Layout.EROFS, each) for each in _PACKED if each in means.compressions]
    on_zram = [StorageOption(Layout.INDEX, zram=True), StorageOption(Layout.TREE, zram=True)] if means.zram else []
    every = [StorageOption(Layout.INDEX), StorageOption(Layout.EROFS), *packed, StorageOption(Layout.TREE), *on_zram]
    return [way for way in every if not means.obstacle(way)]


def arguments(way: StorageOption, need: MemoryNeed) -> str:
    """Give the kernel arguments that ask for a way, with a zram device that is large enough."""
    size = -(-int(need.stored / ZRAM_USABLE) // _ROUND) * _ROUND // MIB
    return f"{way.arguments} bootc.zram={size}M" if way.zram else way.arguments


def _why(
    way: StorageOption,
    need: MemoryNeed,
    room: Room,
    found: Candidates,
    passed: Sequence[tuple[StorageOption, MemoryNeed]],
) -> str:
    others = "".join(f"; {other} {lack(other, much, room)}" for other, much in passed)
    return f"layout {way}, {found.chosen}: needs {mib(need.memory)} of {mib(room.available)}{others}{found.obstacles}"


def _remedy(way: StorageOption, need: MemoryNeed, short: Lack, estimated: Estimate, room: Room, means: Means) -> str:
    """Say what would help; the limits that were set do not count for that, because they can be changed."""
    free = replace(room, backing=Backing())
    kept = replace(room.backing, size=None)
    parts = []
    if short.what == _BY_SIZE and lack(way, need, replace(room, backing=kept)) is None:
        parts.append(f"leave bootc.live.size= out, or set it to {-(-short.needed // MIB)}M")
    needs = [(each, memory_need(each, likely(estimated))) for each in every_way(means)]
    fitting = [(each, much) for each, much in needs if lack(each, much, free) is None]
    # A larger zram device may do; what has no memory, or not the limit it wants, has been told of.
    same = replace(way, algorithm="")
    fitting = [each for each in fitting if each[0] != same or short.what == _BY_ZRAM]
    if fitting:
        parts.append(
            "what would fit: " + ", or ".join(f"{arguments(*each)} ({mib(each[1].memory)})" for each in fitting)
        )
    else:
        parts.append("no other layout would fit")
    if short.what == _BY_FREE:
        parts.append("name a --workdir with more space")
    elif need.memory > room.available:
        parts.append(f"layout {way} needs a machine with {larger_machine(room, need.memory) // MIB} MiB")
    return "; ".join(parts)
