"""Plan a root before the first byte of a layer is fetched: whether the image fits into RAM, and which layout it gets.

Only what is known to be too large is refused. If a part of the size is a guess, the boot warns and continues; a file
system that becomes full ends it with one error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bootc_live.base.errors import AdmissionError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB, mib
from bootc_live.config.model import Backing, Compression, Config, Layout, Zram
from bootc_live.image.candidate import Candidate
from bootc_live.image.size.estimate import Estimate, estimate
from bootc_live.rootfs.memory.host import Means, MemoryRoom
from bootc_live.rootfs.memory.need import ZRAM_USABLE, MemoryNeed, StorageOption, memory_need, more_memory

_COMPRESSIONS = (Compression.LZ4, Compression.ZSTD)
# Used instead of a compression that cannot be mounted.
_LIGHTER = {Compression.ZSTD: (Compression.LZ4, Compression.NONE), Compression.LZ4: (Compression.NONE,)}
_BY_MEMORY = "are available"
_BY_SIZE = "are allowed by bootc.live.size="
_BY_FREE = "are free in --workdir"
_BY_ZRAM = "of that fit into bootc.zram="
# Proposed sizes are multiples of this.
_ROUND = 64 * MIB


@dataclass(frozen=True)
class RootPlan:
    """How a root will be built: decided once for each source, and nothing later decides it again.

    ``need`` is the expected need, ``why`` the reason for a person, ``warning`` what may go wrong. The plan follows from
    the image's sizes in ``estimate`` and the memory in ``room``.
    """

    option: StorageOption
    need: MemoryNeed
    why: str
    estimate: Estimate
    room: MemoryRoom
    warning: str | None = None


@dataclass(frozen=True)
class Lack:
    """What is not enough: ``needed`` bytes are needed, ``present`` bytes are there."""

    needed: int
    present: int
    what: str = _BY_MEMORY

    def __str__(self) -> str:
        """Return both in MiB."""
        return f"needs {mib(self.needed)}, {mib(self.present)} {self.what}"


@dataclass(frozen=True)
class Candidates:
    """The options that the arguments allow, fastest first.

    ``chosen`` tells how they differ from the arguments, ``obstacles`` why others are missing, as it follows a sentence.
    ``warning`` is set if the substitute needs more memory or behaves differently.
    """

    options: tuple[StorageOption, ...]
    chosen: str = ""
    obstacles: str = ""
    warning: str = ""


def candidates(
    layout: Layout, compress: Compression, means: Means, zram: Zram | None = None, *, verity: bool = False
) -> Candidates:
    """Return the options for a layout that can be mounted: at least one.

    If a layout cannot be mounted, the next one is used: ``erofs`` for ``index``, a lighter compression for a heavier
    one, ``tree`` for all of EROFS. ``auto`` uses ``tree`` only then: it is chosen for real files, not for its size.
    ``verity`` applies to EROFS images; see ``check_options``.
    """
    obstacles: dict[str, None] = {}

    def mountable(option: StorageOption) -> bool:
        obstacle = means.obstacle(option)
        if obstacle:
            obstacles[obstacle] = None
        return not obstacle

    def first(options: Sequence[StorageOption]) -> list[StorageOption]:
        return next(([option] for option in options if mountable(option)), [])

    asked = StorageOption(layout, compress if layout is Layout.EROFS else Compression.NONE)
    if layout is Layout.AUTO:
        wanted = _COMPRESSIONS if compress is Compression.NONE else (compress,)
        compressed = [StorageOption(Layout.EROFS, each) for each in wanted if each in means.compressions]
        found = [*first((StorageOption(Layout.INDEX), StorageOption(Layout.EROFS))), *filter(mountable, compressed)]
    else:
        lighter = [each for each in _LIGHTER.get(compress, ()) if each in means.compressions]
        erofs = [StorageOption(Layout.EROFS, each) for each in (compress, *lighter)]
        found = first({Layout.INDEX: [asked, *erofs], Layout.EROFS: erofs}.get(layout, []))
    found = found or [StorageOption(Layout.TREE)]
    if layout is Layout.AUTO:
        chosen, notable = "the fastest that fits", found[0].layout is Layout.TREE
    else:
        chosen = "" if found[0] == asked else f"instead of {asked}"
        # The erofs layout gives the same as an index, a little later.
        notable = found[0] != asked and (layout, found[0].layout) != (Layout.INDEX, Layout.EROFS)
    because = "".join(f"; {obstacle}" for obstacle in obstacles)
    warning = f"layout {found[0]} is used, {chosen}{because}" if notable else ""
    if zram is not None:
        found = [replace(option, zram=True, algorithm=zram.algorithm) for option in found]
    if verity:
        found = [replace(option, verity=option.layout is Layout.EROFS) for option in found]
    return Candidates(tuple(found), chosen, because, warning)


def choose(
    source_text: str,
    layout: Layout,
    compress: Compression,
    estimated: Estimate,
    room: MemoryRoom,
    means: Means,
    begun: StorageOption | None = None,
    *,
    verity: bool = False,
) -> RootPlan:
    """Return a plan for the first option of a layout that fits.

    Raise AdmissionError if none can fit, naming those that would. ``source_text`` is the image as typed, for messages;
    ``begun`` is the only option left.
    """
    found = candidates(layout, compress, means, room.backing.zram, verity=verity)
    if begun is not None:
        found = Candidates((begun,), "as begun for another source")
    needs = {option: likely_need(option, estimated) for option in found.options}
    lacks: dict[StorageOption, Lack] = {}
    for option, need in needs.items():
        short = lack(option, need, room)
        if short is None:
            return RootPlan(option, need, _why(option, need, room, found, lacks), estimated, room)
        lacks[option] = short
    possible = [option for option in needs if lack(option, least_need(option, estimated), room) is None]
    option = min(possible or needs, key=lambda each: needs[each].memory)
    if not possible:
        raise AdmissionError(
            f"{source_text!r} does not fit into memory: layout {option} {lacks[option]}{found.obstacles}",
            hint=_remedy(option, lacks[option], estimated, room, means),
        )
    why = f"layout {option}: nothing is sure to fit{found.obstacles}"
    warning = (
        f"{source_text!r} may not fit into memory: layout {option} {lacks[option]}; continuing: that is partly a guess"
    )
    return RootPlan(option, needs[option], why, estimated, room, warning)


def plan_root(
    candidate: Candidate,
    config: Config,
    room: MemoryRoom,
    means: Means,
    begun: StorageOption | None,
    recorder: Recorder,
) -> RootPlan:
    """Return the plan for the image of a source, and report it; raise as ``choose``.

    ``begun`` is the only option left after layers of another source were consumed for it.
    """
    with recorder.phase("estimate", "estimating the size of the image"):
        estimated = estimate(candidate.source, candidate.image, candidate.cache)
    # Small guesses are not worth mentioning.
    guessed = f" ({mib(estimated.guessed)} of that are guessed)" if estimated.guessed > MIB else ""
    recorder.say(f"{mib(estimated.size)} to fetch, {mib(estimated.unpacked)} unpacked{guessed}")
    asked = candidate.image.source_text, config.layout, config.compress
    plan = choose(*asked, estimated, room, means, begun, verity=config.verity)
    recorder.say(plan.why)
    if plan.warning is not None:
        recorder.warn(plan.warning)
    return plan


def check_options(config: Config, means: Means, recorder: Recorder) -> None:
    """Warn of a layout that cannot be mounted here; raise RootfsError if no other is allowed."""
    found = candidates(config.layout, config.compress, means)
    warning = found.warning
    pins = {
        "bootc.live.erofs.digest": config.erofs_digest,
        "bootc.live.verity.roothash": config.root_hash,
    }
    for name, value in pins.items():
        if warning and value is not None:
            raise RootfsError(
                f"'{name}={value}' allows no other layout, but {warning}",
                hint="use a kernel that can mount it, or pin an image with a compression that this kernel has",
            )
    if config.verity and found.options[0].layout is not Layout.EROFS:
        raise RootfsError(
            f"'bootc.live.verity' allows no other layout than erofs, but {warning}",
            hint="use a kernel that can mount it, or boot without bootc.live.verity",
        )
    if warning:
        recorder.warn(warning)


def likely_need(option: StorageOption, estimated: Estimate) -> MemoryNeed:
    """Return the need of an option, as far as the image's size is known."""
    return memory_need(option, estimated.unpacked, streamed=estimated.streamed)


def least_need(option: StorageOption, estimated: Estimate) -> MemoryNeed:
    """Return the need of an option if every guess is too high."""
    return memory_need(option, estimated.least, streamed=estimated.streamed, at_best=True)


def lack(option: StorageOption, need: MemoryNeed, room: MemoryRoom) -> Lack | None:
    """Return what is not enough for an option, None if everything is."""
    zram = room.backing.zram if option.zram else None
    if zram is not None and need.stored > zram.size * ZRAM_USABLE:
        return Lack(need.stored, int(zram.size * ZRAM_USABLE), _BY_ZRAM)
    if room.backing.size is not None and need.held > room.backing.size:
        return Lack(need.held, room.backing.size, _BY_SIZE)
    if room.free is not None and need.stored > room.free:
        return Lack(need.stored, room.free, _BY_FREE)
    memory = need.memory - (need.held if room.on_disk else 0)
    return Lack(memory, room.available) if memory > room.available else None


def every_option(means: Means) -> list[StorageOption]:
    """Return all options that can be mounted, fastest first."""
    compressed = [StorageOption(Layout.EROFS, each) for each in _COMPRESSIONS if each in means.compressions]
    on_zram = [StorageOption(Layout.INDEX, zram=True), StorageOption(Layout.TREE, zram=True)] if means.zram else []
    plain = [StorageOption(Layout.INDEX), StorageOption(Layout.EROFS)]
    every = [*plain, *compressed, StorageOption(Layout.TREE), *on_zram]
    return [option for option in every if not means.obstacle(option)]


def arguments(option: StorageOption, need: MemoryNeed) -> str:
    """Return the kernel arguments for an option, with a zram device that is large enough."""
    words = [f"bootc.live.layout={option.layout}"]
    if option.compress is not Compression.NONE:
        words.append(f"bootc.live.compress={option.compress}")
    if option.verity:
        words.append("bootc.live.verity")
    if option.zram:
        words.append(f"bootc.zram={-(-int(need.stored / ZRAM_USABLE) // _ROUND) * _ROUND // MIB}M")
    return " ".join(words)


def _why(
    option: StorageOption, need: MemoryNeed, room: MemoryRoom, found: Candidates, lacks: Mapping[StorageOption, Lack]
) -> str:
    chosen = f", {found.chosen}" if found.chosen else ""
    others = "".join(f"; {other} {short}" for other, short in lacks.items())
    return f"layout {option}{chosen}: needs {mib(need.memory)} of {mib(room.available)}{others}{found.obstacles}"


def _remedy(option: StorageOption, short: Lack, estimated: Estimate, room: MemoryRoom, means: Means) -> str:
    """Return what would help; limits that were set do not count, because they can be changed."""
    unlimited = replace(room, backing=Backing())
    sizeless = replace(room, backing=replace(room.backing, size=None))
    every = every_option(means)
    if option.verity:
        every = [replace(each, verity=True) for each in every if each.layout is Layout.EROFS]
    needs = {each: likely_need(each, estimated) for each in every}
    parts = []
    if short.what == _BY_SIZE and lack(option, likely_need(option, estimated), sizeless) is None:
        parts.append(f"leave bootc.live.size= out, or set it to {-(-short.needed // MIB)}M")
    # A larger zram device may be enough for the option itself; all else about it has been said.
    same = None if short.what == _BY_ZRAM else replace(option, algorithm="")
    fitting = [each for each, need in needs.items() if each != same and lack(each, need, unlimited) is None]
    if fitting:
        listed = (f"{arguments(each, needs[each])} ({mib(needs[each].memory)})" for each in fitting)
        parts.append("what would fit: " + ", or ".join(listed))
    else:
        parts.append("no other layout would fit")
    if short.what == _BY_FREE:
        parts.append("name a --workdir with more space")
    needs[option] = likely_need(option, estimated)
    named = option if fitting else min(needs, key=lambda each: needs[each].memory)
    lacking = lack(named, needs[named], unlimited)
    if lacking is not None and lacking.what == _BY_MEMORY:
        name = f"layout {named}" if fitting else f"the smallest, layout {named},"
        parts.append(f"{name} needs {mib(more_memory(lacking.needed - lacking.present))} more memory")
    return "; ".join(parts)
