"""Members of a layer, kept in a quarter of the memory that they take as objects, while the layers are being fetched."""

from __future__ import annotations

import marshal
from collections.abc import Iterator

from bootc_live.base.tar_format import NO_XATTRS
from bootc_live.base.tar_reader import Member

_TOGETHER = 256


class PackedMembers:
    """A list that grows at its end, and is read once: what has been read is given back."""

    def __init__(self) -> None:
        """Begin with none."""
        self._packed: list[bytes | Member] = []
        self._open: list[tuple[object, ...]] = []

    def add(self, member: Member) -> None:
        """Put one behind the others."""
        if member.xattrs or member.extents is not None:
            # Few have these, which are of types of their own.
            self._close()
            self._packed.append(member)
            return
        self._open.append(member[:-2])
        if len(self._open) == _TOGETHER:
            self._close()

    def __iter__(self) -> Iterator[Member]:
        """Give all, in order, and forget them."""
        self._close()
        self._packed.reverse()
        while self._packed:
            part = self._packed.pop()
            if isinstance(part, Member):
                yield part
                continue
            for fields in marshal.loads(part):  # noqa: S302 - packed by this process
                yield Member._make((*fields, NO_XATTRS, None))

    def _close(self) -> None:
        if self._open:
            self._packed.append(marshal.dumps(self._open))
            self._open = []
