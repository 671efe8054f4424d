"""An archive read once from front to back: compressed ones, and those of servers without ranges."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import IO

from bootc_live.base.errors import SourceError
from bootc_live.source.archive.files import plain_name
from bootc_live.source.inflate import inflate
from bootc_live.source.interface import CHUNK, Member

# What tarfile raises.
_DAMAGED = (tarfile.TarError, OSError, ValueError, EOFError)
_HINT = "make or copy the archive anew"


class StreamArchive:
    """An OCI archive or docker-archive, plain or compressed, as a stream; see ``StreamSource``."""

    docker = False

    def __init__(
        self,
        open_bytes: Callable[[], AbstractContextManager[Iterator[bytes]]],
        typed: str,
        label: str | None,
        *,
        insecure: bool,
        interrupt: Callable[[], None],
    ) -> None:
        """``open_bytes`` opens the stream from the front; ``interrupt`` ends it."""
        self.typed = typed
        self.label = label
        self.insecure = insecure
        self.interrupt = interrupt
        self._open_bytes = open_bytes

    def size_of(self, _name: str) -> int | None:
        """Say that it is not known."""
        return None

    @contextmanager
    def members(self) -> Iterator[Iterator[Member]]:
        """Open it from the front."""
        with self._open_bytes() as chunks, closing(inflate(chunks, f"the archive {self.typed!r}")) as plain:
            yield self._members(plain)

    def _members(self, plain: Iterator[bytes]) -> Iterator[Member]:
        seen = False
        try:
            with tarfile.open(fileobj=_Pieces(plain), mode="r|", bufsize=CHUNK) as tar:
                for info in tar:
                    seen = True
                    file = tar.extractfile(info) if info.isreg() else None
                    if file is not None:
                        yield Member(plain_name(info.name), info.size, self._chunks(file))
        except _DAMAGED as error:
            what = "is cut short or damaged" if seen else "cannot be read as an OCI archive"
            raise SourceError(f"{self.typed!r} {what}: {error}", hint=_HINT) from error

    def _chunks(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            while chunk := file.read(CHUNK):
                yield chunk
        except _DAMAGED as error:
            raise SourceError(f"{self.typed!r} is cut short or damaged: {error}", hint=_HINT) from error


class _Pieces(io.RawIOBase):
    """An iterator of pieces as the file object that tarfile reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if not self._left:
            self._left = next(self._pieces, b"")
        length = len(self._left) if size is None or size < 0 else size
        piece, self._left = self._left[:length], self._left[length:]
        return piece
