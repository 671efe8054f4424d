"""Headers of layers read while those are still being written, so that no time is left to wait for afterwards.

What has been read counts only for layers that turned out to be what they should be.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.formats.tar.reader import Member, read_members
from bootc_live.image.sink import LayerPlace
from bootc_live.image.verified import ResolvedImage, VerifiedLayer
from bootc_live.rootfs.tree.follower import AbandonedError, TarFollower
from bootc_live.rootfs.tree.packed_members import HeldMembers, PackedMembers


class ReadAhead:
    """The sink that reads the headers of layers and leaves the layers where they are. Use ``read_ahead``."""

    consumes = False

    def __init__(self, path: str) -> None:
        """``path`` is the data file that will be there when the first layer is."""
        self._path = path
        self._readers: dict[str, LayerReader] = {}
        self._held = HeldMembers()

    def begin(self, image: ResolvedImage) -> int:
        """Forget the layers of other images; every layer is to be written."""
        for diff_id in self._readers.keys() - set(image.config.diff_ids):
            self._forget(diff_id)
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[TarFollower]:
        """Read one layer while the block writes it."""
        self._forget(place.diff_id)
        reader = LayerReader(self._path, place.offset, self._held)
        try:
            yield reader.tar
        except BaseException:
            reader.stop()
            raise
        self._readers[place.diff_id] = reader

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Give the members of a layer, None where it has not been read; raises ValueError as ``read_members``.

        They are given back as they are taken: where a layer stands twice, there is None for the second.
        """
        reader = self._readers.get(layer.diff_id)
        if reader is None or reader.offset != layer.offset:
            return None
        del self._readers[layer.diff_id]
        return reader.members()

    def _forget(self, diff_id: str) -> None:
        reader = self._readers.pop(diff_id, None)
        if reader is not None:
            reader.stop()

    def close(self) -> None:
        """End all readers."""
        for reader in self._readers.values():
            reader.stop()


class LayerReader:
    """Reads the headers of one layer, which begins at ``offset`` of the data file, in a thread of its own."""

    def __init__(self, path: str, offset: int, held: HeldMembers) -> None:
        """Begin at once: ``tar`` is to be told what is written; ``held`` counts the members of all layers."""
        self.offset = offset
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.tar = self._open(self._fd)
        self._found = PackedMembers(held)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="headers")
        self._thread.start()

    def members(self) -> Iterator[Member]:
        """Give what was found, once; raises ValueError as ``read_members``."""
        self.wait()
        yield from self._found
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def stop(self) -> None:
        """End early, with nothing found."""
        self.tar.abandon()
        self.wait()
        self._found.forget()

    def _open(self, fd: int) -> TarFollower:
        tar = TarFollower(fd, self.offset, keep=True)
        # Whatever is far ahead may be so: nothing is given back here.
        tar.ignore_rest()
        return tar

    def _take(self, member: Member) -> None:
        self._found.add(member)

    def _run(self) -> None:
        try:
            for member in read_members(self.tar):
                self._take(member)
        except AbandonedError:
            pass
        except Exception as error:  # noqa: BLE001
            # Told to whoever asks for the members, if the layer counts at all.
            self._error = error
        finally:
            self.tar.ignore_rest()
            os.close(self._fd)


@contextmanager
def read_ahead(path: str) -> Iterator[ReadAhead]:
    """Keep readers for the layers of the data file ``path`` while the block runs."""
    ahead = ReadAhead(path)
    try:
        yield ahead
    finally:
        ahead.close()
