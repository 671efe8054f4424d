"""Keep a few files of layers and free the rest while it is written, so that no root needs to fit into memory.

Files are chosen by name. In images of ostree, the data has names without meaning (the real names are hard links to
them): there, files are chosen by how the data begins.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.threads import background_thread
from bootc_live.formats.tar.reader import Member
from bootc_live.image.sink import LayerPlace
from bootc_live.image.verified import ResolvedImage, VerifiedImage, VerifiedLayer
from bootc_live.rootfs.tree.follower import PUNCH_STEP, TarFollower, follow
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import UNREAD
from bootc_live.rootfs.tree.read_ahead import HeldMembers
from bootc_live.system.files import punch_hole

_BOOT_NAMES = (b"vmlinuz", b"initramfs", b"initrd")
_TELLING = (b"modules.dep", b"modules.builtin")
# If one of these, or an entry of modules, is replaced by something else, all below it is gone.
_ABOVE = frozenset(
    {
        *(b"usr", b"lib", b"modules", b"bootc", b"kargs.d", b"boot", b"efi", b"EFI", b"Linux"),
        *(b"etc", b"local", b"systemd", b"system", b"system-preset"),
    }
)
_UNITS = b"systemd/system/"
_OBJECTS = b"ostree/repo/objects/"
_SMALL = 64 * 2**10
# How kernels and UKIs begin; and initramfs, plain and compressed.
_KERNEL = (b"MZ",)
_INITRAMFS = (b"070701", b"070702", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"\x02\x21\x4c\x18", b"\x5d\0\0")
# Kernel arguments, presets of systemd, and a machine ID that the first boot replaces.
_TEXTS = re.compile(rb"kargs|^[ \t]*(?:enable|disable)[ \t]|\Auninitialized", re.MULTILINE)
_INITRAMFS_SIZE = 4 * 2**20


class BootFileFilter:
    """The sink that keeps only the files of layers that a boot loader might need."""

    consumes = False

    def __init__(self, path: str) -> None:
        """Filter the data file ``path``."""
        self._path = path
        self._layers: dict[str, _FilteredLayer] = {}
        self._held = HeldMembers()

    def begin(self, image: ResolvedImage) -> int:
        """Forget the layers of other images; every layer is to be written."""
        for diff_id in self._layers.keys() - set(image.config.diff_ids):
            self._layers.pop(diff_id).forget()
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[TarFollower]:
        """Filter one layer while the block writes it."""
        if place.diff_id in self._layers:
            self._layers.pop(place.diff_id).forget()
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            tar = _FilteredTar(fd, place.offset)
            layer = _FilteredLayer(tar, place.offset, self._held)
            try:
                with background_thread(layer.read, tar.abandon, "headers") as wait:
                    yield tar
                    wait()
            except BaseException:
                layer.forget()
                raise
            finally:
                tar.free_rest()
        finally:
            os.close(fd)
        self._layers[place.diff_id] = layer

    def begun(self, image: VerifiedImage) -> tuple[Merging, int]:  # noqa: ARG002
        """Return an empty tree."""
        return Merging(), 0

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Return the members of a layer that matter, None if it was not filtered; raise ValueError as ``read_members``.

        Files whose data was not kept are UNREAD.
        """
        found = self._layers.get(layer.diff_id)
        return None if found is None or found.offset != layer.offset else found.members()


class _FilteredLayer:
    """The members of one layer that matter."""

    def __init__(self, tar: _FilteredTar, offset: int, held: HeldMembers) -> None:
        self.offset = offset
        self._tar, self._held = tar, held
        self._kept: list[Member] = []
        self._error: Exception | None = None

    def read(self) -> None:
        """Read the tar to its end, or until it is abandoned."""
        self._error = follow(self._tar, self._filter)

    def members(self) -> Iterator[Member]:
        """Yield the members, more than once if a layer occurs twice."""
        yield from self._kept
        if self._error is not None:
            raise self._error

    def forget(self) -> None:
        self._held.free([len(self._kept), sum(map(_text, self._kept))])
        self._kept = []

    def _keep(self, member: Member) -> None:
        self._kept.append(member)
        self._held.spend(1, _text(member))

    def _filter(self, members: Iterator[Member]) -> None:
        for member in members:
            base = _base(member.name)
            if member.kind == "file":
                self._filter_file(member, base)
            elif member.kind == "hardlink":
                self._filter_link(member, base)
            elif member.kind in ("dir", "symlink") or base.startswith(b".wh.") or _is_above(member.name, base):
                self._keep(member._replace(xattrs={}))
            self._tar.pass_over(member.offset)

    def _filter_file(self, member: Member, base: bytes) -> None:
        spans = _spans(member)
        if self._stays(member, base):
            for begin, size in spans:
                self._tar.keep(begin, begin + size)
            self._keep(member._replace(xattrs={}))
        elif _is_known(member.name, base):
            self._keep(_unread(member, member.name) if member.size else member._replace(xattrs={}))
        # The size of a sparse file is not that of its data.
        self._tar.pass_over(max((begin + size for begin, size in spans), default=member.offset))

    def _filter_link(self, member: Member, base: bytes) -> None:
        if _wanted(member.name, base) or (_is_known(member.name, base) and _OBJECTS not in member.name):
            target = _base(member.link)
            known = _wanted(member.link, target) or _is_known(member.link, target)
            self._keep(member._replace(xattrs={}) if known else _unread(member, member.link))

    def _stays(self, member: Member, base: bytes) -> bool:
        if _wanted(member.name, base):
            return True
        if _OBJECTS not in member.name or not member.size:
            return False
        if member.size <= _SMALL:
            return _TEXTS.search(self._tar.read(member.offset, member.size)) is not None
        first = self._tar.read(member.offset, 8)
        return first.startswith(_KERNEL) or (member.size >= _INITRAMFS_SIZE and first.startswith(_INITRAMFS))


class _FilteredTar(TarFollower):
    """A tar whose data is freed while it is written, except for what is kept."""

    def __init__(self, fd: int, begin: int) -> None:
        super().__init__(fd, begin, keep=False)
        # In the order of the tar; those before what was freed are forgotten.
        self._spans: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    def free_rest(self) -> None:
        """Free what is left, at the end of writing."""
        self._free_gaps(self._written, last=True)

    def keep(self, begin: int, end: int) -> None:
        """Keep a span that was not passed over."""
        with self._lock:
            self._spans.append((begin, end))

    def pass_over(self, end: int) -> None:
        """Note that only what is kept is needed before ``end``, which may not have been written yet."""
        self._released = max(self._released, end)
        self._free_gaps(min(self._released, self._written))

    def advance(self, size: int) -> None:
        super().advance(size)
        self._free_gaps(size if self._ignored else min(self._released, size))

    def _free(self, position: int) -> None:
        """Leave that to ``_free_gaps``."""

    def _free_gaps(self, position: int, *, last: bool = False) -> None:
        with self._lock:
            begin = self._punched
            if position - begin < (1 if last else PUNCH_STEP):
                return
            for start, end in self._spans:
                if start >= position:
                    break
                if start > begin:
                    punch_hole(self._fd, self._begin + begin, start - begin)
                begin = max(begin, end)
            if position > begin:
                punch_hole(self._fd, self._begin + begin, position - begin)
            self._punched = position // PUNCH_STEP * PUNCH_STEP
            # All others are looked at again each time.
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
    """Return whether the existence of such a file matters, or that it is the target of another name."""
    return base.startswith((b".wh.", *_TELLING)) or _OBJECTS in name or _UNITS in name or _is_above(name, base)


def _is_above(name: bytes, base: bytes) -> bool:
    return base in _ABOVE or name.rstrip(b"/").endswith(b"modules/" + base)


def _text(member: Member) -> int:
    return len(member.name) + len(member.link)


def _unread(member: Member, where: bytes) -> Member:
    return member._replace(kind=UNREAD, link=where, xattrs={}, size=0, extents=None)


def _spans(member: Member) -> list[tuple[int, int]]:
    if member.extents is None:
        return [(member.offset, member.size)]
    return [(extent.data, extent.length) for extent in member.extents]
