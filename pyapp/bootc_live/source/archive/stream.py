"""Read an archive once from start to end: compressed archives, and those on servers without ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

from bootc_live.base.errors import SourceError, about
from bootc_live.source.archive.files import plain_name
from bootc_live.source.archive.tar import StreamBuffer, chunks_of, read_entries
from bootc_live.source.interface import Member
from bootc_live.system.inflate.streams import inflate

# Programs fill the last block, which has some MiB at most.
_LONGEST_END = 64 * 1024 * 1024
_HINT = "make or copy the archive again"


class StreamArchive:
    """An OCI archive or docker-archive, plain or compressed, as a stream; see ``StreamSource``."""

    docker = False

    def __init__(
        self,
        open_bytes: Callable[[], AbstractContextManager[Iterator[bytes]]],
        source_text: str,
        label: str | None,
        *,
        insecure: bool,
        interrupt: Callable[[], None],
        hashes: Sequence[str] = (),
    ) -> None:
        """Open the stream with ``open_bytes``, and end it with ``interrupt``.

        Compute the ``hashes`` of the file, by the names of their algorithms; then it is always read to its end.
        """
        self.source_text = source_text
        self.label = label
        self.insecure = insecure
        self.interrupt = interrupt
        self.hashes = tuple(hashes)
        self._open_bytes = open_bytes
        self._hashers: dict[str, hashlib._Hash] = {}
        self._ended = False

    def size_of(self, _name: str) -> int | None:
        """Return None: sizes are not known in advance."""
        return None

    def file_digests(self) -> dict[str, str]:
        """Return the digests of the file by algorithm; raise ValueError unless its members were read to the last."""
        if not self._ended:
            raise ValueError("the archive was not read to its end")
        return {name: hasher.hexdigest() for name, hasher in self._hashers.items()}

    @contextmanager
    def members(self) -> Iterator[Iterator[Member]]:
        """Open the archive at its start."""
        self._ended, self._hashers = False, {name: hashlib.new(name) for name in self.hashes}
        with self._open_bytes() as chunks, closing(self._inflated(self._hashed(chunks))) as plain:
            yield self._members(plain)

    def _hashed(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            for hasher in self._hashers.values():
                hasher.update(chunk)
            yield chunk
        self._ended = True

    def _finish(self, plain: Iterator[bytes]) -> None:
        """Read what follows the last member: the hashes are those of the whole file."""
        left = _LONGEST_END
        for chunk in plain:
            left -= len(chunk)
            if left < 0:
                raise ValueError(f"more than {_LONGEST_END} bytes follow its last member")

    def _inflated(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        with about(f"the archive {self.source_text!r}"):
            yield from inflate(chunks)

    def _members(self, plain: Iterator[bytes]) -> Iterator[Member]:
        seen = False
        archive = StreamBuffer(plain)

        @contextmanager
        def opener(offset: int, length: int) -> Iterator[Iterator[bytes]]:
            yield self._whole(archive.data(offset, length), length)

        try:
            for entry in read_entries(archive):
                seen = True
                if entry.kind == "file":
                    with closing(chunks_of(entry, opener)) as chunks:
                        yield Member(plain_name(entry.name), entry.size, chunks)
            if self.hashes:
                self._finish(plain)
        except ValueError as error:
            problem = "is truncated or damaged" if seen else "cannot be read as an OCI archive"
            raise SourceError(f"{self.source_text!r} {problem}: {error}", hint=_HINT) from error
        if not seen:
            raise SourceError(f"{self.source_text!r} cannot be read as an OCI archive: it is empty", hint=_HINT)

    def _whole(self, chunks: Iterator[bytes], length: int) -> Iterator[bytes]:
        for chunk in chunks:
            length -= len(chunk)
            yield chunk
        if length:
            raise SourceError(f"{self.source_text!r} is truncated or damaged: it ends inside a member", hint=_HINT)
