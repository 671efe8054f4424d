"""Find the images of an index that run on a platform."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bootc_live.base.errors import ImageError
from bootc_live.formats.oci.descriptor import Descriptor, Platform

# GOARCH and variant by the names of machines in uname(2).
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
    # Other common names, all in lower case.
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
    """Return the platform of this machine, or of a machine name of uname(2)."""
    name = machine or os.uname().machine
    return _normalized(Platform("linux", name))


class MisfitError(ImageError):
    """An image is not the requested one: it is for other machines, has another digest, or is not an image."""


def candidates(entries: Sequence[Descriptor], wanted: Platform, pin: str | None = None) -> list[Descriptor]:
    """Return the entries of an index that may run on a platform: same variant, other variants, without a platform.

    If an entry has the digest ``pin``, it is the only one. Signatures and other artifacts are ignored. Raises
    MisfitError with the platforms of the index.
    """
    pinned = [entry for entry in entries if entry.digest == pin]
    if pinned:
        return pinned[:1]
    images = [entry for entry in entries if not entry.is_artifact]
    usable = [entry for entry in images if entry.platform is None or _runs(entry.platform, wanted)]
    if not usable:
        have = ", ".join(sorted({str(entry.platform) for entry in images})) or "nothing"
        raise MisfitError(f"it is not made for {wanted}; its index has: {have}", hint=_HINT)

    def rank(entry: Descriptor) -> int:
        if entry.platform is None:
            return 2
        return 0 if _variant(entry.platform) == _variant(wanted) else 1

    return sorted(usable, key=rank)


def check(found: Platform, wanted: Platform) -> None:
    """Raise MisfitError if the config of an image is for another platform."""
    if not _runs(found, wanted):
        raise MisfitError(f"it is made for {found}, this machine is {wanted}", hint=_HINT)


def _normalized(platform: Platform) -> Platform:
    """Return a platform with normal names: ``X86_64`` is ``amd64``, ``arm64/v8`` is an architecture and a variant."""
    name, _, rest = platform.architecture.strip().lower().partition("/")
    variant = platform.variant.strip().lower() or rest
    architecture, implied = _SPELLINGS.get(name, (name, ""))
    variant = variant or implied
    if variant.isdigit():
        variant = f"v{variant}"
    return Platform(platform.os.strip().lower(), architecture, variant)


def _runs(platform: Platform, wanted: Platform) -> bool:
    found = _normalized(platform)
    if found.architecture == wanted.architecture == "arm" and found.variant > wanted.variant:
        # v6 machines cannot run images for v7; v7 machines can run those for v6.
        return False
    return found.os in ("", "linux") and found.architecture in ("", wanted.architecture)


def _variant(platform: Platform) -> str:
    # arm64 has only one variant, which most tools omit; every amd64 machine is v1.
    normal = _normalized(platform)
    only_one = normal.architecture == "arm64" or (normal.architecture, normal.variant) == ("amd64", "v1")
    return "" if only_one else normal.variant
