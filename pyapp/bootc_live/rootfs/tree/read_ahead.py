"""Read the headers of layers while they are written, so that nothing is left to wait for afterwards.

What was read only counts for layers that turn out to be right.
"""

from __future__ import annotations

import marshal
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.formats.tar.reader import Member
from bootc_live.image.sink import LayerPlace
from bootc_live.image.verified import ResolvedImage, VerifiedLayer
from bootc_live.rootfs.tree.follower import TarFollower, follow
from bootc_live.rootfs.tree.node import TEXT, Budget

_TOGETHER = 256


class HeldMembers:
    """Counts the members that are held for all layers of an image, up to what an image may have (SECURITY.md)."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._left = {"members": Budget.MOST["members"], TEXT: Budget.MOST[TEXT]}

    def spend(self, members: int, text: int) -> None:
        """Count what is held from now on; raise ValueError if it is too much. Negative counts are freed."""
        with self._lock:
            self._left["members"] -= members
            self._left[TEXT] -= text
            exceeded = [what for what, left in self._left.items() if left < 0]
        if exceeded and members > 0:
            raise ValueError(f"the layers together have more than {Budget.MOST[exceeded[0]]} {exceeded[0]}")


class PackedMembers:
    """A list of members in a quarter of the memory that objects use; it grows at its end and is read once."""

    def __init__(self, held: HeldMembers) -> None:
        """Begin with none; ``held`` counts them with those of other layers."""
        self._held = held
        self._packed: list[bytes | Member] = []
        self._open: list[tuple[object, ...]] = []
        self._shared: Mapping[bytes, bytes] = NO_XATTRS
        self._spent = [0, 0]

    def add(self, member: Member) -> None:
        """Append a member; raise ValueError if the layers have too many."""
        if member.xattrs or member.extents is not None:
            # Few members have these, and marshal does not know their types.
            self._close()
            self._packed.append(member)
            self._spend(1, len(member.name) + len(member.link) + self._new_text(member.xattrs))
            return
        self._open.append(member[:-2])
        if len(self._open) == _TOGETHER:
            self._close()

    def __iter__(self) -> Iterator[Member]:
        """Yield all members in order, and forget them."""
        try:
            self._close()
            self._packed.reverse()
            while self._packed:
                part = self._packed.pop()
                if isinstance(part, Member):
                    yield part
                    continue
                for fields in marshal.loads(part):  # noqa: S302 - packed by this process
                    yield Member._make((*fields, NO_XATTRS, None))
        finally:
            self.forget()

    def forget(self) -> None:
        """Forget all members, and stop counting them."""
        self._packed, self._open = [], []
        members, text = self._spent
        self._spent = [0, 0]
        self._held.spend(-members, -text)

    def _close(self) -> None:
        if self._open:
            packed = marshal.dumps(self._open)
            self._packed.append(packed)
            self._spend(len(self._open), len(packed))
            self._open = []

    def _spend(self, members: int, text: int) -> None:
        self._spent[0] += members
        self._spent[1] += text
        self._held.spend(members, text)

    def _new_text(self, xattrs: Mapping[bytes, bytes]) -> int:
        """Return the size of attributes; those of a global header are one object for many members."""
        if xattrs is self._shared:
            return 0
        self._shared = xattrs
        return sum(len(name) + len(value) for name, value in xattrs.items())


class ReadAhead:
    """The sink that reads the headers of layers and leaves the layers where they are. Use ``read_ahead``."""

    consumes = False

    def __init__(self, path: str) -> None:
        """Read from the data file ``path``, which exists when the first layer begins."""
        self._path = path
        self._layers: dict[str, _LayerHeaders] = {}
        self._held = HeldMembers()

    def begin(self, image: ResolvedImage) -> int:
        """Forget the layers of other images; every layer is to be written."""
        for diff_id in self._layers.keys() - set(image.config.diff_ids):
            self._forget(diff_id)
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[TarFollower]:
        """Read one layer while the block writes it."""
        self._forget(place.diff_id)
        headers = _LayerHeaders(self._path, place.offset, self._held)
        headers.start()
        try:
            yield headers.tar
        except BaseException:
            headers.stop()
            raise
        self._layers[place.diff_id] = headers

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Return the members of a layer, None if it was not read; raise ValueError as ``read_members``.

        They are freed as they are used: for a layer that occurs twice, the second call returns None.
        """
        headers = self._layers.get(layer.diff_id)
        if headers is None or headers.offset != layer.offset:
            return None
        del self._layers[layer.diff_id]
        return headers.members()

    def _forget(self, diff_id: str) -> None:
        headers = self._layers.pop(diff_id, None)
        if headers is not None:
            headers.stop()

    def close(self) -> None:
        """Stop reading."""
        for headers in self._layers.values():
            headers.stop()


class _LayerHeaders:
    """The headers of a layer at ``offset`` of the data file, read in a thread from ``start`` on."""

    def __init__(self, path: str, offset: int, held: HeldMembers) -> None:
        self.offset = offset
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.tar = TarFollower(self._fd, offset, keep=True)
        # Nothing is freed here, so the writer may be as far ahead as it likes.
        self.tar.ignore_rest()
        self._found = PackedMembers(held)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="headers")

    def start(self) -> None:
        self._thread.start()

    def members(self) -> Iterator[Member]:
        """Yield what was found, once; raise ValueError as ``read_members``."""
        self._thread.join()
        yield from self._found
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop early, and forget what was found."""
        self.tar.abandon()
        self._thread.join()
        self._found.forget()

    def _run(self) -> None:
        try:
            self._error = follow(self.tar, self._add)
        finally:
            os.close(self._fd)

    def _add(self, members: Iterator[Member]) -> None:
        for member in members:
            self._found.add(member)


@contextmanager
def read_ahead(path: str) -> Iterator[ReadAhead]:
    """Yield a sink for the layers of the data file ``path``; stop reading with the block."""
    ahead = ReadAhead(path)
    try:
        yield ahead
    finally:
        ahead.close()
