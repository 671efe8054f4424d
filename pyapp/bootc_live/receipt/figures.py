"""What a boot took and made, as figures for the receipt: bytes, ratios, and why the root lies in RAM as it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from bootc_live.config.model import Config
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.memory.admitting import Admission
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.rootfs.writable.state import State


@dataclass(frozen=True)
class Figures:
    """What a boot took and made.

    ``metadata`` and ``peak_memory`` are bytes, ``hosts`` bytes that came over the network by host. ``built`` is the
    root, ``library`` what compressed it, with its version; ``admission`` is who chose the layout; ``labelled`` tells
    whether SELinux labels were set, ``state`` is the partition in use.
    """

    metadata: int
    peak_memory: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    built: BuiltRoot | None = None
    library: str = ""
    admission: Admission | None = None
    labelled: bool = False
    state: State | None = None


def root_parts(config: Config, figures: Figures, fetched: int, unpacked: int) -> dict[str, object]:
    """Give the parts of a receipt that are about the root, for an image of so many bytes as fetched and unpacked."""
    parts, built, way = config.parts, figures.built, _way(config, figures)
    estimate = None if figures.admission is None else figures.admission.estimate
    return {
        "layout": str(way.layout),
        "root": {
            "compression": str(way.compress),
            "library": figures.library,
            "asked": {"layout": str(config.layout), "compression": str(config.compress)},
            "why": _why(figures),
            "size": None if built is None else built.size,
            "sha256": None if built is None else built.sha256,
            "labelled": figures.labelled,
        },
        "backing": {"kind": _kind(config, figures), **asdict(config.backing)},
        "writable": {
            "root": parts.root,
            "etc": parts.etc,
            "var": parts.var,
            "on": parts.backing,
            "state": None if figures.state is None else asdict(figures.state),
        },
        "bytes": {
            "fetched": fetched,
            "transferred": sum(figures.hosts.values()),
            "unpacked": unpacked,
            "metadata": figures.metadata,
            "estimated": None if estimate is None else estimate.unpacked,
            "guessed": None if estimate is None else estimate.guessed,
        },
        "peak_memory": figures.peak_memory,
        "memory": _memory(figures),
        "ratios": _ratios(figures, fetched, unpacked),
    }


def _kind(config: Config, figures: Figures) -> str:
    if config.backing.zram is not None:
        return "zram"
    chosen = figures.admission is not None and figures.admission.room.free is not None
    return "directory" if chosen else "tmpfs"


def _way(config: Config, figures: Figures) -> StorageOption:
    choice = None if figures.admission is None else figures.admission.choice
    if choice is not None:
        return choice.way
    return StorageOption(config.layout if figures.built is None else figures.built.layout, config.compress)


def _why(figures: Figures) -> str | None:
    choice = None if figures.admission is None else figures.admission.choice
    return None if choice is None else choice.why


def _memory(figures: Figures) -> dict[str, object]:
    """Give the bytes of RAM there were, those that were expected to be needed, and the image's part of these."""
    admission = figures.admission
    choice = None if admission is None else admission.choice
    return {
        "total": None if admission is None else admission.room.total,
        "available": None if admission is None else admission.room.available,
        "needed": None if choice is None else choice.need.memory,
        "image": None if choice is None else choice.need.held,
    }


def _ratios(figures: Figures, fetched: int, unpacked: int) -> dict[str, float | None]:
    """Relate what was fetched, expected, used and made to what the image unpacks to."""
    estimate = None if figures.admission is None else figures.admission.estimate
    compared = {
        "fetched": fetched,
        "estimated": None if estimate is None else estimate.unpacked,
        "peak": figures.peak_memory,
        "root": None if figures.built is None else figures.built.size,
    }
    return {
        f"{name}_to_unpacked": None if value is None or not unpacked else round(value / unpacked, 3)
        for name, value in compared.items()
    }
