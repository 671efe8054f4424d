"""Which of an index's images runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bootc_live.base.errors import ImageError
from bootc_live.formats.oci.descriptor import Descriptor, Platform

# Names of machines to GOARCH and variant, as image indexes use them; first those of uname(2).
_SPELLINGS = {
    "x86_64": ("amd64", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "riscv64": ("riscv64", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
    # Other names of the same, of distributions and of people; all in lower case.
    "x86-64": ("amd64", ""),
    "x64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "x86": ("386", ""),
    "arm64v8": ("arm64", "v8"),
    "armv8": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv7": ("arm", "v7"),
    "arm32v7": ("arm", "v7"),
    "armv6": ("arm", "v6"),
    "arm32v6": ("arm", "v6"),
    "armel": ("arm", "v6"),
    "armv5": ("arm", "v5"),
    "arm32v5": ("arm", "v5"),
    "ppc64el": ("ppc64le", ""),
    "powerpc64le": ("ppc64le", ""),
    "loongarch": ("loong64", ""),
    "mips64el": ("mips64le", ""),
    "mipsel": ("mipsle", ""),
}
_HINT = "build the image for this machine, or name another image"


def machine_platform(machine: str | None = None) -> Platform:
    """Give the platform of this machine, or of one with the given uname name."""
    name = machine or os.uname().machine
    return _plain(Platform("linux", name))


class MisfitError(ImageError):
    """An image is not the one that is meant: it is for other machines, or not the pinned one, or no image at all."""


def candidates(entries: Sequence[Descriptor], wanted: Platform, typed: str, pin: str | None = None) -> list[Descriptor]:
    """Return the entries of an index that may run on a platform: the same variant first, then any, then unnamed ones.

    The one with the digest ``pin`` is the only one where it is there. Signatures and the like are passed over. Raises
    MisfitError listing what there is.
    """
    pinned = [entry for entry in entries if entry.digest == pin]
    if pinned:
        return pinned[:1]
    images = [entry for entry in entries if not entry.is_artifact]
    usable = [entry for entry in images if entry.platform is None or _runs(entry.platform, wanted)]
    if not usable:
        have = ", ".join(sorted({str(entry.platform) for entry in images})) or "nothing"
        raise MisfitError(f"{typed!r} is not made for {wanted}; its index has: {have}", hint=_HINT)

    def rank(entry: Descriptor) -> int:
        if entry.platform is None:
            return 2
        return 0 if _variant(entry.platform) == _variant(wanted) else 1

    return sorted(usable, key=rank)


def check(found: Platform, wanted: Platform, typed: str) -> None:
    """Raise MisfitError where an image's config says it is for another machine."""
    if not _runs(found, wanted):
        raise MisfitError(f"{typed!r} is made for {found}, this machine is {wanted}", hint=_HINT)


def _plain(platform: Platform) -> Platform:
    """Return a platform in the spelling of image indexes: ``X86_64`` is ``amd64``, ``arm64/v8`` in one word is two."""
    name, _, rest = platform.architecture.strip().lower().partition("/")
    variant = platform.variant.strip().lower() or rest
    architecture, implied = _SPELLINGS.get(name, (name, ""))
    variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    return Platform(platform.os.strip().lower(), architecture, variant)


def _runs(platform: Platform, wanted: Platform) -> bool:
    found = _plain(platform)
    if found.architecture == wanted.architecture == "arm" and found.variant > wanted.variant:
        # v6 machines do not run what is made for v7; the other way round they do.
        return False
    return found.os in ("", "linux") and found.architecture in ("", wanted.architecture)


def _variant(platform: Platform) -> str:
    # arm64 has one variant, and most tools leave it out; v1 of amd64 is what every such machine has.
    plain = _plain(platform)
    return (
        "" if plain.architecture == "arm64" or (plain.architecture, plain.variant) == ("amd64", "v1") else plain.variant
    )
