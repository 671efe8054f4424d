"""Members of a layer, kept in a quarter of the memory that they take as objects, while the layers are being fetched."""

from __future__ import annotations

import marshal
import threading
from collections.abc import Iterator, Mapping

from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.formats.tar.reader import Member
from bootc_live.rootfs.tree.node import TEXT, Budget

_TOGETHER = 256


class HeldMembers:
    """What all layers of an image together may have waiting: no more than the image may have (SECURITY.md)."""

    def __init__(self) -> None:
        """Begin with nothing held."""
        self._lock = threading.Lock()
        self._left = {"members": Budget.MOST["members"], TEXT: Budget.MOST[TEXT]}

    def spend(self, members: int, text: int) -> None:
        """Count what is held from now on; raises ValueError where it is too much. Negative counts are given back."""
        with self._lock:
            self._left["members"] -= members
            self._left[TEXT] -= text
            exceeded = [what for what, left in self._left.items() if left < 0]
        if exceeded and members > 0:
            raise ValueError(f"the layers together have more than {Budget.MOST[exceeded[0]]} {exceeded[0]}")


class PackedMembers:
    """A list that grows at its end, and is read once: what has been read is given back."""

    def __init__(self, held: HeldMembers) -> None:
        """Begin with none; ``held`` counts them, with those of other layers."""
        self._held = held
        self._packed: list[bytes | Member] = []
        self._open: list[tuple[object, ...]] = []
        self._shared: Mapping[bytes, bytes] = NO_XATTRS
        self._spent = [0, 0]

    def add(self, member: Member) -> None:
        """Put one behind the others; raises ValueError where the layers have too many."""
        if member.xattrs or member.extents is not None:
            # Few have these, which are of types of their own.
            self._close()
            self._packed.append(member)
            self._spend(1, len(member.name) + len(member.link) + self._new_text(member.xattrs))
            return
        self._open.append(member[:-2])
        if len(self._open) == _TOGETHER:
            self._close()

    def __iter__(self) -> Iterator[Member]:
        """Give all, in order, and forget them."""
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
        """Forget all, and count none of it any more."""
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
