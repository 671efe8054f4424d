"""Read the headers of layers while they are written, and merge them, so that little is left to do afterwards.

What was read only counts for layers that turn out to be right.
"""

from __future__ import annotations

import marshal
import mmap
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.formats.tar.reader import Member, read_members
from bootc_live.image.sink import DataFile, LayerPlace, LayerProgress
from bootc_live.image.verified import ResolvedImage, VerifiedImage, VerifiedLayer
from bootc_live.rootfs.tree.follower import AbandonedError, TarFollower, follow
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import TEXT, Budget

_TOGETHER = 256
# As many members of a layer are merged before it is verified: as objects of a tree they take four times the memory.
_MOST_UNVERIFIED = 2**17


class HeldMembers:
    """Counts the members that are held for all layers of an image, up to what an image may have (SECURITY.md)."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._left = {"members": Budget.MOST["members"], TEXT: Budget.MOST[TEXT]}

    def spend(self, members: int, text: int) -> None:
        """Count what is held from now on; raise ValueError if it is too much."""
        with self._lock:
            self._left["members"] -= members
            self._left[TEXT] -= text
            exceeded = [what for what, left in self._left.items() if left < 0]
        if exceeded:
            raise ValueError(f"the layers together have more than {Budget.MOST[exceeded[0]]} {exceeded[0]}")

    def free(self, spent: list[int]) -> None:
        """Stop counting members and text, and set both to 0."""
        with self._lock:
            self._left["members"] += spent[0]
            self._left[TEXT] += spent[1]
            spent[:] = 0, 0


class PackedMembers:
    """A list of members in a quarter of the memory that objects use; one thread fills it, another one reads it once."""

    def __init__(self, held: HeldMembers) -> None:
        """Begin with none; ``held`` counts them with those of other layers."""
        self._held = held
        # Bytes are several members; None is the end.
        self._packed: SimpleQueue[bytes | Member | None] = SimpleQueue()
        self._open: list[tuple[object, ...]] = []
        self._forgotten = False
        self._shared: Mapping[bytes, bytes] = NO_XATTRS
        self._spent = [0, 0]

    def add(self, member: Member) -> None:
        """Append a member; raise ValueError if the layers have too many."""
        if self._forgotten:
            return
        if member.xattrs or member.extents is not None:
            # Few members have these, and marshal does not know their types.
            self._close()
            self._packed.put(member)
            self._spend(1, len(member.name) + len(member.link) + self._new_text(member.xattrs))
            return
        self._open.append(member[:-2])
        if len(self._open) == _TOGETHER:
            self._close()

    def end(self) -> None:
        """Note that no members follow."""
        try:
            self._close()
        finally:
            self._packed.put(None)

    def __iter__(self) -> Iterator[Member]:
        """Yield all members in order as they come, and forget them."""
        try:
            while (part := self._packed.get()) is not None:
                if isinstance(part, Member):
                    yield part
                    continue
                for fields in marshal.loads(part):  # noqa: S302 - packed by this process
                    yield Member._make((*fields, NO_XATTRS, None))
        finally:
            self.forget()

    def forget(self) -> None:
        """Forget the members that wait and those that come, stop counting them, and let a reader end."""
        self._forgotten = True
        with suppress(Empty):
            while True:
                self._packed.get_nowait()
        self._packed.put(None)
        self._held.free(self._spent)

    def _close(self) -> None:
        if self._open:
            packed, count = marshal.dumps(self._open), len(self._open)
            self._open = []
            self._packed.put(packed)
            self._spend(count, len(packed))

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
        self._layers: dict[str, _Headers] = {}
        self._held = HeldMembers()
        self._merging: _MergingAhead | None = None

    def begin(self, image: ResolvedImage) -> int:
        """Forget the layers of other images; every layer is to be written."""
        for diff_id in self._layers.keys() - set(image.config.diff_ids):
            self._forget(diff_id)
        self._end_merging()
        self._merging = _MergingAhead(image.config.diff_ids)
        for headers in self._layers.values():
            self._merging.add(headers)
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[LayerProgress]:
        """Read one layer while the block writes it."""
        self._forget(place.diff_id)
        if place.whole is not None:
            whole = self._layers[place.diff_id] = _WholeLayer(self._path, place.diff_id, place.offset, place.whole)
            if self._merging is not None:
                self._merging.add(whole)
            yield DataFile()
            return
        headers = _LayerHeaders(self._path, place, self._held)
        headers.start()
        if self._merging is not None:
            self._merging.add(headers)
        try:
            yield headers.tar
        except BaseException:
            headers.stop()
            raise
        headers.verified()
        self._layers[place.diff_id] = headers

    def begun(self, image: VerifiedImage) -> tuple[Merging, int]:
        """Return the tree of the first layers of an image, once, and their number."""
        ahead = self._end_merging()
        if ahead is not None:
            merging, used = ahead
            # What was merged may have turned out to be wrong later, and may have been fetched again.
            if len(used) <= len(image.layers) and all(map(self._is_of, used, image.layers)):
                return merging, len(used)
        return Merging(), 0

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Return the members of a layer, None if it was not read; raise ValueError as ``read_members``.

        They are freed as they are used: for a layer that occurs twice, the second call returns None.
        """
        headers = self._layers.get(layer.diff_id)
        if headers is None or headers.taken or headers.offset != layer.offset:
            return None
        return headers.members()

    def _is_of(self, headers: _Headers, layer: VerifiedLayer) -> bool:
        return self._layers.get(layer.diff_id) is headers and headers.offset == layer.offset

    def _end_merging(self) -> tuple[Merging, list[_Headers]] | None:
        ahead, self._merging = self._merging, None
        return None if ahead is None else ahead.end()

    def _forget(self, diff_id: str) -> None:
        headers = self._layers.pop(diff_id, None)
        if headers is not None:
            headers.stop()

    def close(self) -> None:
        """Stop reading."""
        for headers in self._layers.values():
            headers.stop()
        self._end_merging()


class _Headers(Protocol):
    """The headers of a layer."""

    diff_id: str
    offset: int
    taken: bool

    def members(self) -> Iterator[Member]:
        """Yield the members, once; raise ValueError as ``read_members``, and AbandonedError."""

    def stop(self) -> None:
        """Let a reader end early."""


class _WholeLayer:
    """The headers of a layer that is there: they are read when they are merged."""

    def __init__(self, path: str, diff_id: str, offset: int, size: int) -> None:
        self.diff_id, self.offset = diff_id, offset
        self.taken = self._stopped = False
        self._path, self._size = path, size

    def members(self) -> Iterator[Member]:
        """Yield the members, once; raise ValueError as ``read_members``, and AbandonedError."""
        self.taken = True
        if not self._size:
            return
        with (
            open(self._path, "rb") as file,
            mmap.mmap(file.fileno(), self._size, prot=mmap.PROT_READ, offset=self.offset) as buffer,
        ):
            for member in read_members(buffer):
                if self._stopped:
                    raise AbandonedError
                yield member

    def stop(self) -> None:
        """Let a reader end early."""
        self._stopped = True


class _LayerHeaders:
    """The headers of a layer in the data file, read in a thread from ``start`` on."""

    def __init__(self, path: str, place: LayerPlace, held: HeldMembers) -> None:
        self.diff_id, self.offset = place.diff_id, place.offset
        self.taken = False
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.tar = TarFollower(self._fd, place.offset, keep=True)
        # Nothing is freed here, so the writer may be as far ahead as it likes.
        self.tar.ignore_rest()
        self._found = PackedMembers(held)
        self._error: Exception | None = None
        self._stopped = False
        self._decided = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headers")

    def start(self) -> None:
        self._thread.start()

    def verified(self) -> None:
        """Note that the layer has the right digest."""
        self._decided.set()

    def members(self) -> Iterator[Member]:
        """Yield the members as they are found, once; raise ValueError as ``read_members``, and AbandonedError.

        Those beyond the first 128 Ki wait until the layer is verified.
        """
        self.taken = True
        for number, member in enumerate(self._found):
            if number == _MOST_UNVERIFIED:
                self._decided.wait()
            if self._stopped:
                break
            yield member
        self._thread.join()
        if self._stopped:
            raise AbandonedError
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop early, and forget what was found."""
        self._stopped = True
        self.tar.abandon()
        self._decided.set()
        self._thread.join()
        self._found.forget()

    def _run(self) -> None:
        try:
            self._error = follow(self.tar, self._add)
            self._found.end()
        except Exception as error:  # noqa: BLE001 - raised by ``members``
            self._error = error
        finally:
            os.close(self._fd)

    def _add(self, members: Iterator[Member]) -> None:
        for member in members:
            self._found.add(member)


class _MergingAhead:
    """Merges layers in their order, in a thread, while their headers are read."""

    def __init__(self, diff_ids: Sequence[str]) -> None:
        self._diff_ids = diff_ids
        # The headers of each layer when it comes, then None.
        self._coming: dict[str, SimpleQueue[_Headers | None]] = {diff_id: SimpleQueue() for diff_id in diff_ids}
        self._merging = Merging()
        self._used: list[_Headers] = []
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="merge")
        self._thread.start()

    def add(self, headers: _Headers) -> None:
        """Merge a layer of the image, also one that is still read, after those below it."""
        if headers.diff_id in self._coming:
            self._coming[headers.diff_id].put(headers)

    def end(self) -> tuple[Merging, list[_Headers]] | None:
        """Wait for the layers that have come; return their tree and themselves, None if one is wrong."""
        for coming in self._coming.values():
            coming.put(None)
        self._thread.join()
        return None if self._failed else (self._merging, self._used)

    def _run(self) -> None:
        for number, diff_id in enumerate(self._diff_ids):
            headers = self._coming[diff_id].get()
            if headers is None or headers.taken:
                return
            self._failed = True
            try:
                for member in headers.members():
                    self._merging.apply(member, number, headers.offset)
            except Exception:  # noqa: BLE001
                # Whoever merges from the start meets it again, if the layer counts.
                self._merging = Merging()
                return
            self._failed = False
            self._used.append(headers)


@contextmanager
def read_ahead(path: str) -> Iterator[ReadAhead]:
    """Yield a sink for the layers of the data file ``path``; stop reading with the block."""
    ahead = ReadAhead(path)
    try:
        yield ahead
    finally:
        ahead.close()
