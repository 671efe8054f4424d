"""Archives behind http and https URLs: read by ranges like a local file, or streamed where the server has none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import requests

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import WebArchive
from bootc_live.source.access import Access
from bootc_live.source.archive.opening import read_archive
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.http.web import Web, opened_web
from bootc_live.source.interface import AnySource
from bootc_live.source.retry import skipped

# The first question asks for this much: it tells whether there are ranges, how long the file is, and how it begins.
_FIRST = 64 * 1024
_RANGE = re.compile(r"bytes 0-(\d+)/(\d+)\Z")


@contextmanager
def open_web_archive(spec: WebArchive, access: Access) -> Iterator[AnySource]:
    """Open an archive; connections close with the block. Raises SourceError."""
    insecure = access.unsecure or spec.url.startswith("http:")
    with opened_web(access) as web, ExitStack() as stack:
        first = web.persistence.insist([None], lambda _way: _first_answer(stack, web, spec))
        ranged = _RANGE.match(first.headers.get("Content-Range", ""))
        if first.status_code == HTTPStatus.PARTIAL_CONTENT and ranged is not None:
            head = web.persistence.insist([first, None], lambda answer: _head(web, spec, answer))
            reader = WebReader(web, spec, int(ranged[2]), _validator(first), head)
            yield read_archive(reader, spec.typed, access.label, insecure=insecure)
            return
        unread = [first]

        @contextmanager
        def open_from(start: int) -> Iterator[Iterator[bytes]]:
            if unread and start == 0:
                answer = unread.pop()
                yield web.body(answer, spec.typed)
                return
            with web.get(spec.url, spec.typed, {}, start) as answer:
                _check_same(first, answer, spec.typed)
                body = web.body(answer, spec.typed)
                yield skipped(body, start) if answer.status_code == HTTPStatus.OK else body

        @contextmanager
        def open_bytes() -> Iterator[Iterator[bytes]]:
            length = first.headers.get("Content-Length", "")
            size = int(length) if length.isdigit() else None
            chunks = web.persistence.resumed([None], lambda _way, start: open_from(start), size)
            try:
                yield chunks
            finally:
                chunks.close()

        yield StreamArchive(open_bytes, spec.typed, access.label, insecure=insecure, interrupt=web.interrupt)


class WebReader:
    """A file on a server that answers ranges; see ``archive.reader.Reader``."""

    def __init__(self, web: Web, spec: WebArchive, size: int, validator: str | None, head: bytes) -> None:
        """``validator`` is the file's entity tag or date (RFC 9110, 13.1.5), ``head`` how it begins."""
        self.size = size
        self._web = web
        self._spec = spec
        self._validator = validator
        self._head = head

    def read(self, offset: int, length: int) -> bytes:
        """Give bytes, fewer only at the end; raises SourceError."""
        length = min(length, self.size - offset)
        if offset + length <= len(self._head):
            return self._head[offset : offset + length]
        with self.stream(offset, length) as chunks:
            return b"".join(chunks)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a span; raises SourceError."""
        if length <= 0:
            yield iter(())
            return

        @contextmanager
        def open_from(_way: None, start: int) -> Iterator[Iterator[bytes]]:
            begin, end = offset + start, offset + length
            headers = {"If-Range": self._validator} if self._validator else {}
            with self._web.get(self._spec.url, self._spec.typed, headers, begin, end) as answer:
                if answer.status_code == HTTPStatus.OK:
                    raise _changed(self._spec.typed)
                yield self._web.body(answer, self._spec.typed, end - begin)

        chunks = self._web.persistence.resumed([None], open_from, length)
        try:
            yield chunks
        finally:
            chunks.close()

    def release(self, _offset: int, _length: int) -> None:
        """Do nothing: nothing is kept."""

    def interrupt(self) -> None:
        """End all transfers."""
        self._web.interrupt()


def _first_answer(stack: ExitStack, web: Web, spec: WebArchive) -> requests.Response:
    return stack.enter_context(web.get(spec.url, spec.typed, {}, 0, _FIRST))


def _head(web: Web, spec: WebArchive, answer: requests.Response | None) -> bytes:
    if answer is not None:
        return b"".join(web.body(answer, spec.typed))
    with web.get(spec.url, spec.typed, {}, 0, _FIRST) as again:
        return b"".join(web.body(again, spec.typed))


def _validator(answer: requests.Response) -> str | None:
    tag = answer.headers.get("ETag", "")
    # Weak tags must not be compared with for ranges.
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


def _check_same(first: requests.Response, answer: requests.Response, typed: str) -> None:
    if _validator(first) != _validator(answer):
        raise _changed(typed)


def _changed(typed: str) -> SourceError:
    return SourceError(
        f"{typed!r} changed on its server while it was read, or the server stopped answering ranges",
        hint="boot again once the upload is finished",
    )
