"""Which of an index's images runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bootc_live.base.errors import ImageError
from bootc_live.source.descriptor import Descriptor, Platform

# uname(2) machine names to GOARCH and variant, as image indexes use them.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
}
_HINT = "build the image for this machine, or name another image"


def machine_platform(machine: str | None = None) -> Platform:
    """Give the platform of this machine, or of one with the given uname name."""
    name = machine or os.uname().machine
    architecture, variant = _MACHINES.get(name, (name, ""))
    return Platform("linux", architecture, variant)


def choose(entries: Sequence[Descriptor], wanted: Platform, typed: str) -> Descriptor:
    """Give the manifest for a platform: same variant first, then any; raises ImageError listing what there is."""
    usable = [entry for entry in entries if entry.platform is None or _runs(entry.platform, wanted)]
    if not usable:
        have = ", ".join(sorted({str(entry.platform) for entry in entries})) or "nothing"
        raise ImageError(f"{typed!r} is not made for {wanted}; its index has: {have}", hint=_HINT)
    exact = [entry for entry in usable if entry.platform and _variant(entry.platform) == _variant(wanted)]
    named = [entry for entry in usable if entry.platform]
    return (exact or named or usable)[0]


def check(found: Platform, wanted: Platform, typed: str) -> None:
    """Raise ImageError where an image's config says it is for another machine."""
    if not _runs(found, wanted):
        raise ImageError(f"{typed!r} is made for {found}, this machine is {wanted}", hint=_HINT)


def _runs(found: Platform, wanted: Platform) -> bool:
    if found.architecture == wanted.architecture == "arm" and found.variant > wanted.variant:
        # v6 machines do not run what is made for v7; the other way round they do.
        return False
    return found.os in ("", "linux") and found.architecture in ("", wanted.architecture)


def _variant(platform: Platform) -> str:
    # arm64 has one variant, and most tools leave it out.
    return "" if platform.architecture == "arm64" else platform.variant
