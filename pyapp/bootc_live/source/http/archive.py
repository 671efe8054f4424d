"""Archives behind http and https URLs: read by ranges like a local file, or streamed where the server has none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import requests

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.config.source_spec import WebArchive
from bootc_live.source.access import Access
from bootc_live.source.archive.opening import read_archive
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.http.proxies import basic_login, without_login
from bootc_live.source.http.ranges import Asking, DoubtfulRangeError, RangeError, few, part_of
from bootc_live.source.http.web import Web, opened_web
from bootc_live.source.interface import AnySource

# The first question asks for this much: it tells whether there are ranges, how long the file is, and how it begins.
_FIRST = 64 * 1024
# There is one way to a web server.
_ONE_WAY = (None,)


@contextmanager
def open_web_archive(spec: WebArchive, access: Access) -> Iterator[AnySource]:
    """Open an archive; connections close with the block. Raise SourceError."""
    insecure = spec.url.startswith("http:")
    with opened_web(access, spec.typed) as web, ExitStack() as stack:
        file = _File(web, spec)
        # A stream begins with the very answer to the first question.
        asking = file.asking()
        first = web.persistence.insist(
            _ONE_WAY, lambda _way: stack.enter_context(asking.answer(0, _FIRST, closed=True))
        )
        part = part_of(first)
        stream = _Stream(file, first if part is None else None)
        source: AnySource = StreamArchive(
            stream.open, spec.typed, access.label, insecure=insecure, interrupt=web.interrupt
        )
        if part is not None and part.size is not None:
            reader = WebReader(file, part.size, _head(file, first))
            try:
                source = read_archive(reader, spec.typed, access.label, insecure=insecure)
            except (RangeError, DoubtfulRangeError) as error:
                # The headers alone would take reading it once for each of them.
                access.tell(f"{error.message}; it is read as a whole")
            reader.opened = True
        yield source


class _File:
    """A file on a server."""

    def __init__(self, web: Web, spec: WebArchive) -> None:
        self.web = web
        self.typed = spec.typed
        self._version: str | None = None
        login = basic_login(spec.url)
        self._url = without_login(spec.url)
        self._login = {"Authorization": login} if login else {}

    def asking(self, *, whole: bool = True) -> Asking:
        """Return a way to ask for it; see ``Asking``."""
        return Asking(self._get, self._read, self.typed, whole=whole)

    @contextmanager
    def _get(self, start: int, end: int | None) -> Iterator[requests.Response]:
        with self.web.get(self._url, self.typed, self._login, start, end) as answer:
            version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if self._version not in (None, version, ""):
                self.web.access.tell(
                    f"{self.typed!r} has changed on its server while it was read, or is on several servers that "
                    f"disagree on its version; digests will tell"
                )
                # Once is enough.
                version = ""
            self._version = version if self._version is None else self._version and version
            yield answer

    def _read(self, answer: requests.Response, expected: int | None) -> Iterator[bytes]:
        return self.web.body(answer, self.typed, expected)


class _Stream:
    """A file read from the front: where it breaks off, by a range if there is one, else from the front again."""

    def __init__(self, file: _File, first: requests.Response | None) -> None:
        self._file = file
        self._asking = file.asking()
        self._unread = first
        self._size = _number(first.headers.get("Content-Length", "")) if first is not None else None

    @contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        """Open it from the front."""
        resumed = self._file.web.persistence.resumed(_ONE_WAY, self._open_from, self._size)
        with closing(resumed) as chunks:
            yield chunks

    @contextmanager
    def _open_from(self, _way: None, start: int) -> Iterator[Iterator[bytes]]:
        if self._unread is not None and start == 0:
            answer, self._unread = self._unread, None
            yield self._file.web.body(answer, self._file.typed)
            return
        with closing(self._asking.pieces(start, self._size)) as pieces:
            yield pieces


class WebReader:
    """A file on a server that answers ranges; see ``archive.reader.Reader``.

    Once it is ``opened``, a server that stops answering them is put up with: all before a span is read and passed over.
    """

    def __init__(self, file: _File, size: int, head: bytes) -> None:
        """Take the file, its size in bytes, and how it begins, which is looked at more than once."""
        self.size = size
        self.opened = False
        self._file = file
        self._head = head

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        length = min(length, self.size - offset)
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        with self.stream(offset, length) as chunks:
            return b"".join(chunks)

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end, by one request; raise SourceError."""
        return few(self._file.asking(whole=False), offset, min(length, self.size - offset))

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a span; raise SourceError."""
        asking = self._file.asking(whole=self.opened)

        @contextmanager
        def open_from(_way: None, start: int) -> Iterator[Iterator[bytes]]:
            with closing(asking.pieces(offset + start, offset + length, cut=True)) as pieces:
                yield pieces

        with closing(self._file.web.persistence.resumed(_ONE_WAY, open_from, length)) as chunks:
            yield chunks

    def release(self, _offset: int, _length: int) -> None:
        """Do nothing: nothing is kept."""

    def interrupt(self) -> None:
        """End all transfers."""
        self._file.web.interrupt()


def _head(file: _File, first: requests.Response) -> bytes:
    unread, asking = [first], file.asking()

    def attempt(_way: None) -> bytes:
        answered = file.web.body(unread.pop(), file.typed) if unread else asking.pieces(0, _FIRST, cut=True)
        head = b""
        while len(head) < _FIRST and (piece := next(answered, b"")):
            head += piece
        return head[:_FIRST]

    return file.web.persistence.insist(_ONE_WAY, attempt)


def _number(text: str) -> int | None:
    try:
        return decimal(text, limit=LARGEST_SIZE)
    except ValueError:
        return None
