"""Layers of which a few files stay: all else is given back while it is written, so that no root need fit into memory.

What may be wanted is told by name. Images of ostree have each file's data under a name that says nothing (the names
that do are hard links to it): there it is told by what the data begins with.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.formats.tar.reader import Member
from bootc_live.image.sink import LayerPlace
from bootc_live.image.verified import ResolvedImage, VerifiedLayer
from bootc_live.rootfs.tree.follower import TarFollower
from bootc_live.rootfs.tree.packed_members import HeldMembers
from bootc_live.rootfs.tree.read_ahead import LayerReader, ReadAhead
from bootc_live.system.files import punch_hole

# Marks a regular file whose data did not stay; its value is where that was.
NOT_KEPT = b"bootc-live.not-kept"

_BOOT_NAMES = (b"vmlinuz", b"initramfs", b"initrd")
_TELLING = (b"modules.dep", b"modules.builtin")
# Where one of these, or what lies in modules, is no directory any more, all below it is gone.
_ABOVE = frozenset(
    {
        *(b"usr", b"lib", b"modules", b"bootc", b"kargs.d", b"boot", b"efi", b"EFI", b"Linux"),
        *(b"etc", b"local", b"systemd", b"system", b"system-preset"),
    }
)
_UNITS = b"systemd/system/"
_OBJECTS = b"ostree/repo/objects/"
_SMALL = 64 * 2**10
_PUNCH = 4 * 2**20
# What kernels and UKIs begin with, and initramfs, plain and compressed.
_KERNEL = (b"MZ",)
_INITRAMFS = (b"070701", b"070702", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"\x02\x21\x4c\x18", b"\x5d\0\0")
# What is in kernel arguments, presets of systemd, and an ID that the first boot replaces.
_TEXTS = re.compile(rb"kargs|^[ \t]*(?:enable|disable)[ \t]|\Auninitialized", re.MULTILINE)
_INITRAMFS_SIZE = 4 * 2**20


class BootFileFilter(ReadAhead):
    """The sink that keeps only what a boot loader might want of layers."""

    def __init__(self, path: str) -> None:
        """``path`` is the data file."""
        super().__init__(path)
        self._filtered: dict[str, _FilterReader] = {}

    def begin(self, image: ResolvedImage) -> int:
        """Forget the layers of other images; every layer is to be written."""
        for diff_id in self._filtered.keys() - set(image.config.diff_ids):
            self._forget(diff_id)
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[TarFollower]:
        """Filter one layer while the block writes it."""
        self._forget(place.diff_id)
        reader = _FilterReader(self._path, place.offset, self._held)
        try:
            try:
                yield reader.tar
            except BaseException:
                reader.stop()
                reader.forget()
                raise
            reader.wait()
        finally:
            reader.sieve.close()
        self._filtered[place.diff_id] = reader

    def _forget(self, diff_id: str) -> None:
        reader = self._filtered.pop(diff_id, None)
        if reader is not None:
            reader.forget()

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Give those members of a layer that matter, None where it has not been skimmed.

        Data that did not stay is marked. Raises ValueError as ``read_members``.
        """
        reader = self._filtered.get(layer.diff_id)
        return None if reader is None or reader.offset != layer.offset else reader.members()


class _FilterReader(LayerReader):
    def __init__(self, path: str, offset: int, held: HeldMembers) -> None:
        self._kept: list[Member] = []
        self._held = held
        super().__init__(path, offset, held)

    def forget(self) -> None:
        self._held.spend(-len(self._kept), -sum(map(_text, self._kept)))
        self._kept = []

    def _keep(self, member: Member) -> None:
        self._kept.append(member)
        self._held.spend(1, _text(member))

    def _open(self, fd: int) -> TarFollower:
        self.sieve = _FilteredTar(os.dup(fd), self.offset)
        return self.sieve

    def members(self) -> Iterator[Member]:
        # More than once: a layer may stand twice.
        yield from self._kept
        if self._error is not None:
            raise self._error

    def _take(self, member: Member) -> None:
        base = _base(member.name)
        if member.kind == "file":
            self._take_file(member, base)
        elif member.kind == "hardlink":
            self._take_link(member, base)
        elif member.kind in ("dir", "symlink") or base.startswith(b".wh.") or _is_above(member.name, base):
            self._keep(member._replace(xattrs={}))
        self.sieve.pass_over(member.offset)

    def _take_file(self, member: Member, base: bytes) -> None:
        spans = _spans(member)
        if self._stays(member, base):
            for begin, size in spans:
                self.sieve.keep(begin, begin + size)
            self._keep(member._replace(xattrs={}))
        elif _is_known(member.name, base):
            self._keep(_lost(member, member.name) if member.size else member._replace(xattrs={}))
        # The size of a sparse one is not that of its data.
        self.sieve.pass_over(max((begin + size for begin, size in spans), default=member.offset))

    def _take_link(self, member: Member, base: bytes) -> None:
        if _wanted(member.name, base) or (_is_known(member.name, base) and _OBJECTS not in member.name):
            target = _base(member.link)
            known = _wanted(member.link, target) or _is_known(member.link, target)
            self._keep(member._replace(xattrs={}) if known else _lost(member, member.link))

    def _stays(self, member: Member, base: bytes) -> bool:
        if _wanted(member.name, base):
            return True
        if _OBJECTS not in member.name or not member.size:
            return False
        if member.size <= _SMALL:
            return _TEXTS.search(self.tar.read(member.offset, member.size)) is not None
        first = self.tar.read(member.offset, 8)
        return first.startswith(_KERNEL) or (member.size >= _INITRAMFS_SIZE and first.startswith(_INITRAMFS))


class _FilteredTar(TarFollower):
    """A tar whose data is given back as it comes, but for what is kept."""

    def __init__(self, fd: int, begin: int) -> None:
        super().__init__(fd, begin, keep=False)
        # In the order of the tar; what lies before all that may be punched is forgotten.
        self._spans: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give back what is left, and be written no more."""
        self._sift(self._written, last=True)
        os.close(self._fd)

    def keep(self, begin: int, end: int) -> None:
        """Let a span stay; it must not have been passed over."""
        with self._lock:
            self._spans.append((begin, end))

    def pass_over(self, end: int) -> None:
        """Nothing before this is needed but what is kept; it may not have been written yet."""
        self._released = max(self._released, end)
        self._sift(min(self._released, self._written))

    def advance(self, size: int) -> None:
        super().advance(size)
        self._sift(size if self._ignored else min(self._released, size))

    def _give_back(self, position: int) -> None:
        """Leave that to ``_sift``."""

    def _sift(self, position: int, *, last: bool = False) -> None:
        with self._lock:
            begin = self._punched
            if position - begin < (1 if last else _PUNCH):
                return
            for start, end in self._spans:
                if start >= position:
                    break
                if start > begin:
                    punch_hole(self._fd, self._begin + begin, start - begin)
                begin = max(begin, end)
            if position > begin:
                punch_hole(self._fd, self._begin + begin, position - begin)
            self._punched = position // _PUNCH * _PUNCH
            # The rest may be looked at once more, and must not be many.
            while self._spans and self._spans[0][1] <= self._punched:
                self._spans.popleft()


def _base(name: bytes) -> bytes:
    return name.rstrip(b"/").rpartition(b"/")[2]


def _wanted(name: bytes, base: bytes) -> bool:
    if base.startswith(_BOOT_NAMES):
        return True
    return (
        base.lower().endswith(b".efi")
        or (base.endswith(b".toml") and b"kargs.d/" in name)
        or (base.endswith(b".preset") and b"system-preset/" in name)
        or base == b"machine-id"
    )


def _is_known(name: bytes, base: bytes) -> bool:
    """Tell whether it counts that there is such a file, or that it is what another name stands for."""
    return base.startswith((b".wh.", *_TELLING)) or _OBJECTS in name or _UNITS in name or _is_above(name, base)


def _is_above(name: bytes, base: bytes) -> bool:
    return base in _ABOVE or name.rstrip(b"/").endswith(b"modules/" + base)


def _text(member: Member) -> int:
    return len(member.name) + len(member.link)


def _lost(member: Member, where: bytes) -> Member:
    return member._replace(kind="file", xattrs={NOT_KEPT: where}, size=0, extents=None)


def _spans(member: Member) -> list[tuple[int, int]]:
    if member.extents is None:
        return [(member.offset, member.size)]
    return [(extent.data, extent.length) for extent in member.extents]
