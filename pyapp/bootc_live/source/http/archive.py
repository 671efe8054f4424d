"""Archives behind http and https URLs: read by ranges like a local file, or streamed where the server has none."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from http import HTTPStatus

import requests

from bootc_live.base.errors import SourceError
from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.config.source_spec import WebArchive
from bootc_live.source.access import Access
from bootc_live.source.archive.opening import read_archive
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.http.errors import broken_off
from bootc_live.source.http.proxies import basic_login, without_login
from bootc_live.source.http.web import Web, check_redirects, few, opened_web
from bootc_live.source.interface import AnySource
from bootc_live.source.retry import skipped

# The first question asks for this much: it tells whether there are ranges, how long the file is, and how it begins.
_FIRST = 64 * 1024
_RANGE = re.compile(r"bytes 0-[0-9]+/([0-9]+)\Z")
# There is one way to a web server.
_ONE_WAY = (None,)


@contextmanager
def open_web_archive(spec: WebArchive, access: Access) -> Iterator[AnySource]:
    """Open an archive; connections close with the block. Raises SourceError."""
    insecure = spec.url.startswith("http:")
    with opened_web(access, spec.typed) as web, ExitStack() as stack:
        file = _File(web, spec)
        # A stream begins with the very answer to the first question.
        first = web.persistence.insist(_ONE_WAY, lambda _way: stack.enter_context(file.get(0, _FIRST)))
        file.validator = _validator(first)
        size = _whole_size(first)
        if size is not None:
            reader = WebReader(file, size, _head(file, first))
            yield read_archive(reader, spec.typed, access.label, insecure=insecure)
        else:
            stream = _Stream(file, first if first.status_code == HTTPStatus.OK else None)
            yield StreamArchive(stream.open, spec.typed, access.label, insecure=insecure, interrupt=web.interrupt)


class _File:
    """A file on a server; ``validator`` is its entity tag or date (RFC 9110, 13.1.5), None where it has neither."""

    def __init__(self, web: Web, spec: WebArchive) -> None:
        self.web = web
        self.typed = spec.typed
        self.validator: str | None = None
        login = basic_login(spec.url)
        self._url = without_login(spec.url)
        self._login = {"Authorization": login} if login else {}

    @contextmanager
    def get(self, start: int, end: int | None = None) -> Iterator[requests.Response]:
        """Ask for it from a byte on, up to before another; the answer may be the whole."""
        ranged = start or end is not None
        headers = {**self._login, **({"If-Range": self.validator} if self.validator and ranged else {})}
        with self.web.get(self._url, self.typed, headers, start, end) as answer:
            check_redirects(answer, self.typed)
            if self.validator is not None and _validator(answer) != self.validator:
                raise SourceError(
                    f"{self.typed!r} changed on its server while it was read",
                    hint="boot again once the upload is finished",
                )
            yield answer


class _Stream:
    """A file read from the front: where it breaks off, by a range if there is one, else from the front again."""

    def __init__(self, file: _File, first: requests.Response | None) -> None:
        self._file = file
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
        web, typed = self._file.web, self._file.typed
        if self._unread is not None and start == 0:
            answer, self._unread = self._unread, None
            yield web.body(answer, typed)
            return
        with self._file.get(start) as answer:
            body = web.body(answer, typed)
            yield skipped(body, start) if answer.status_code == HTTPStatus.OK else body


class WebReader:
    """A file on a server that answers ranges; see ``archive.reader.Reader``."""

    def __init__(self, file: _File, size: int, head: bytes) -> None:
        """Take the file, its size in bytes, and how it begins, which is looked at more than once."""
        self.size = size
        self._file = file
        self._head = head

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, fewer only at the end; raises SourceError."""
        length = min(length, self.size - offset)
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        with self.stream(offset, length) as chunks:
            return b"".join(chunks)

    def peek(self, offset: int, length: int) -> bytes:
        """Give bytes, fewer only at the end, by one request; raises SourceError."""
        length = min(length, self.size - offset)
        with self._file.get(offset, offset + length) as answer:
            return few(self._file.web, answer, self._file.typed, length)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a span; raises SourceError."""

        @contextmanager
        def open_from(_way: None, start: int) -> Iterator[Iterator[bytes]]:
            with closing(self._pieces(offset + start, offset + length)) as pieces:
                yield pieces

        with closing(self._file.web.persistence.resumed(_ONE_WAY, open_from, length)) as chunks:
            yield chunks

    def _pieces(self, begin: int, end: int) -> Generator[bytes, None, None]:
        """Give a span; a server may answer a question for a range by a part of it (RFC 9110, 15.3.7)."""
        web, typed = self._file.web, self._file.typed
        while begin < end:
            with self._file.get(begin, end) as answer:
                if answer.status_code == HTTPStatus.OK:
                    raise SourceError(
                        f"the server of {typed!r} stopped answering ranges",
                        hint="boot again, or copy the archive to another server",
                    )
                came = 0
                for piece in web.body(answer, typed):
                    came += len(piece)
                    yield piece[: end - begin - (came - len(piece))]
            if not came:
                raise broken_off(typed, answer.url, "the answer is empty")
            begin += came

    def release(self, _offset: int, _length: int) -> None:
        """Do nothing: nothing is kept."""

    def interrupt(self) -> None:
        """End all transfers."""
        self._file.web.interrupt()


def _head(file: _File, first: requests.Response) -> bytes:
    unread = [first]

    def attempt(_way: None) -> bytes:
        with nullcontext(unread.pop()) if unread else file.get(0, _FIRST) as answer:
            return b"".join(file.web.body(answer, file.typed))

    return file.web.persistence.insist(_ONE_WAY, attempt)


def _validator(answer: requests.Response) -> str | None:
    tag = answer.headers.get("ETag", "")
    # Weak tags must not be compared with for ranges.
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _whole_size(answer: requests.Response) -> int | None:
    """Return how long the file is of which a range was answered; None for other answers."""
    ranged = _RANGE.match(answer.headers.get("Content-Range", ""))
    return _number(ranged[1]) if answer.status_code == HTTPStatus.PARTIAL_CONTENT and ranged is not None else None


def _number(text: str) -> int | None:
    try:
        return decimal(text, limit=LARGEST_SIZE)
    except ValueError:
        return None
