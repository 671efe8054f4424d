"""The receipt's figures about the root: bytes, ratios, and why its layout was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bootc_live.config.model import Config
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.plan import RootPlan
from bootc_live.rootfs.writable.state import State


@dataclass(frozen=True)
class Figures:
    """What a boot planned, built and used: ``peak_memory`` in bytes, and the bytes from each of ``hosts``.

    ``state`` is the partition in use, or None.
    """

    plan: RootPlan
    built: BuiltRoot
    peak_memory: int
    hosts: Mapping[str, int]
    state: State | None = None


def root_parts(config: Config, figures: Figures, fetched: int, unpacked: int) -> dict[str, object]:
    """Return the parts of a receipt about the root, for an image with these sizes in bytes."""
    parts, built, plan = config.parts, figures.built, figures.plan
    return {
        "layout": str(plan.option.layout),
        "root": {
            "compression": str(plan.option.compress),
            "library": built.library,
            "asked": {"layout": str(config.layout), "compression": str(config.compress)},
            "why": plan.why,
            "size": built.size,
            "sha256": built.sha256,
            "root_hash": built.root_hash,
            "labelled": built.labelled,
        },
        "backing": {"kind": _kind(config, plan), **asdict(config.backing)},
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
            "metadata": built.metadata,
            "estimated": plan.estimate.unpacked,
            "guessed": plan.estimate.guessed,
        },
        "peak_memory": figures.peak_memory,
        "memory": {
            "total": plan.room.total,
            "available": plan.room.available,
            "needed": plan.need.memory,
            "image": plan.need.held,
        },
        "ratios": _ratios(figures, fetched, unpacked),
    }


def _kind(config: Config, plan: RootPlan) -> str:
    if config.backing.zram is not None:
        return "zram"
    return "tmpfs" if plan.room.free is None else "directory"


def _ratios(figures: Figures, fetched: int, unpacked: int) -> dict[str, float | None]:
    """Return the fetched, estimated, used and built bytes, divided by the unpacked bytes."""
    compared = {
        "fetched": fetched,
        "estimated": figures.plan.estimate.unpacked,
        "peak": figures.peak_memory,
        "root": figures.built.size,
    }
    return {f"{name}_to_unpacked": round(value / unpacked, 3) if unpacked else None for name, value in compared.items()}
