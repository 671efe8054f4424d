"""The fstab(5) of an installed system: where its boot partitions are mounted.

systemd-gpt-auto-generator(8) would do that, but only where ``/`` is on a partition, which an overlay is not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from bootc_live.landing.disk.partitions.model import FileSystem, Mounted

# bootctl(1) and others look for both partitions there.
PLACES: Final = ("/efi", "/boot", "/boot/efi")
_TOP: Final = (
    "# Written by bootc-live install. /, /etc and /var are not here: the initramfs mounts them, as root= on the\n"
    "# kernel command line says.\n"
)
# A file system that is mounted only while somebody uses it survives power cuts: so does systemd itself.
_OPTIONS: Final = "noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=2min"


def fstab(brought: str, boot: Mounted, esp: Mounted | None, is_free: Callable[[str], bool]) -> str:
    """Return the fstab of an image that brought one, or "", with lines for its boot partitions.

    ``boot`` has the boot entries, and ``esp`` is the EFI system partition if that is another one. ``is_free`` tells
    whether the image has an empty directory at a path. Lines of the image stay; if they mount something at one of the
    usual places, nothing is added.
    """
    named = {place_of(_words(line)) for line in brought.splitlines()}
    lines = [] if named.intersection(PLACES) else [*_lines(boot, esp, is_free)]
    if not lines and brought:
        return brought
    start = brought if not brought or brought.endswith("\n") else f"{brought}\n"
    return "".join([start, _TOP, *lines])


def place_of(words: Sequence[str]) -> str | None:
    """Return where a line of fstab(5), as its words, mounts something, however many slashes that has."""
    return f"/{'/'.join(filter(None, words[1].split('/')))}" if len(words) > 1 else None


def _words(line: str) -> list[str]:
    return [] if line.lstrip().startswith("#") else line.split()


def _lines(boot: Mounted, esp: Mounted | None, is_free: Callable[[str], bool]) -> Collection[str]:
    """Return the lines for both, at the places that systemd gives them."""
    if esp is None:
        place = next((place for place in ("/efi", "/boot") if is_free(place)), None)
        return [] if place is None else [_line(boot, place)]
    return [_line(one, place) for one, place in ((boot, "/boot"), (esp, "/efi")) if is_free(place)]


def _line(one: Mounted, place: str) -> str:
    options = f"{_OPTIONS},umask=0077" if one.filesystem == FileSystem.VFAT else _OPTIONS
    return f"{one.device} {place} {one.filesystem} {options} 0 2\n"
