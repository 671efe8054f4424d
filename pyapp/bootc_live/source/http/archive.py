"""Open archives at http and https URLs: with ranges like local files, or as streams without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import requests

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.config.source_spec import WebArchive
from bootc_live.source.access import Access
from bootc_live.source.archive.opening import read_archive
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.http.client import HttpClient, http_client
from bootc_live.source.http.proxies import basic_login, without_login
from bootc_live.source.http.ranges import RangeError, RangeReader, TransientRangeError, content_range
from bootc_live.source.interface import AnySource

# The size of the first request, which shows support of ranges, the size of the file, and its first bytes.
_FIRST = 64 * 1024
# Unlike a registry, a web archive has one server.
_SERVERS = (None,)


@contextmanager
def open_web_archive(spec: WebArchive, access: Access, hashes: Sequence[str] = ()) -> Iterator[AnySource]:
    """Open an archive; connections close with the block. Raise SourceError.

    With ``hashes``, open it as a stream that computes them.
    """
    insecure = spec.url.startswith("http:")
    with http_client(access, spec.source_text) as client, ExitStack() as stack:
        file = _File(client, spec)
        # A stream continues the response to the first request.
        reader = file.range_reader()
        first = client.retries.run(_SERVERS, lambda _: stack.enter_context(reader.response(0, _FIRST, closed=True)))
        part = content_range(first)
        stream = _Stream(file, first if part is None else None)
        source: AnySource = StreamArchive(
            stream.open,
            spec.source_text,
            access.label_of(spec.source_text),
            insecure=insecure,
            interrupt=client.interrupt,
            hashes=hashes,
        )
        if part is not None and part.size is not None and not hashes:
            web_file = WebFile(file, part.size, _head(file, first))
            try:
                source = read_archive(web_file, spec.source_text, access.label_of(spec.source_text), insecure=insecure)
            except (RangeError, TransientRangeError) as error:
                # Without ranges, each header of the archive would cost a transfer of the whole file.
                access.tell(f"{error.message}; reading the whole file instead")
            web_file.opened = True
        yield source


class _File:
    """A file on a server."""

    def __init__(self, client: HttpClient, spec: WebArchive) -> None:
        self.client = client
        self._version: str | None = None
        login = basic_login(spec.url)
        self._url = without_login(spec.url)
        self._headers = {"Authorization": login} if login else {}

    def range_reader(self, *, whole: bool = True) -> RangeReader:
        return RangeReader(self._get, self.client.body, self.client.source_text, whole=whole)

    @contextmanager
    def _get(self, start: int, end: int | None) -> Iterator[requests.Response]:
        with self.client.get(self._url, self._headers, start, end) as response:
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            if self._version not in (None, version, ""):
                self.client.access.tell(
                    f"{self.client.source_text!r} changed while it was read, or its servers report different versions; "
                    "digests will verify it"
                )
                # Warn once.
                version = ""
            self._version = version if self._version is None else self._version and version
            yield response


class _Stream:
    """A file read from the start, which continues with a range, if possible, or restarts when it breaks off."""

    def __init__(self, file: _File, first: requests.Response | None) -> None:
        self._client = file.client
        self._reader = file.range_reader()
        self._unread = first
        self._size = _number(first.headers.get("Content-Length", "")) if first is not None else None

    @contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        with closing(self._client.retries.stream(_SERVERS, self._open_from, self._size)) as chunks:
            yield chunks

    @contextmanager
    def _open_from(self, _: None, start: int) -> Iterator[Iterator[bytes]]:
        if self._unread is not None and start == 0:
            response, self._unread = self._unread, None
            yield self._client.body(response)
            return
        with closing(self._reader.chunks(start, self._size)) as chunks:
            yield chunks


class WebFile:
    """A file on a server with ranges; see ``archive.reader.Reader``.

    Once it is ``opened``, it also works without ranges: the bytes before the wanted ones are read and skipped.
    """

    def __init__(self, file: _File, size: int, head: bytes) -> None:
        """Keep the first bytes, ``head``, which are read several times."""
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
        return self._file.range_reader(whole=False).read(offset, min(length, self.size - offset))

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a part of the file; raise SourceError."""
        reader = self._file.range_reader(whole=self.opened)

        @contextmanager
        def open_from(_: None, start: int) -> Iterator[Iterator[bytes]]:
            with closing(reader.chunks(offset + start, offset + length, cut=True)) as chunks:
                yield chunks

        with closing(self._file.client.retries.stream(_SERVERS, open_from, length)) as chunks:
            yield chunks

    def release(self, _offset: int, _length: int) -> None:
        """Do nothing: nothing is stored."""

    def interrupt(self) -> None:
        """End all transfers."""
        self._file.client.interrupt()


def _head(file: _File, first: requests.Response) -> bytes:
    unread, reader = [first], file.range_reader()

    def attempt(_: None) -> bytes:
        chunks = file.client.body(unread.pop()) if unread else reader.chunks(0, _FIRST, cut=True)
        head = b""
        while len(head) < _FIRST and (chunk := next(chunks, b"")):
            head += chunk
        return head[:_FIRST]

    return file.client.retries.run(_SERVERS, attempt)


def _number(text: str) -> int | None:
    try:
        return decimal(text, limit=LARGEST_SIZE)
    except ValueError:
        return None
