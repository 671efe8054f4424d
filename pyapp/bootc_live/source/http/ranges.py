"""Request parts of a file (RFC 9110, 14), or the whole file from servers without ranges.

Only byte positions are compared: entity tags differ between the nodes of a network, and can stay the same for other
content. Digests verify the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import requests

from bootc_live.base.errors import SourceError
from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.source.http.errors import broken_off, refused
from bootc_live.source.retry import TransientError, skip_bytes

_CONTENT_RANGE = re.compile(r"bytes[ =]+([0-9]+)-([0-9]+)/([0-9]+|\*)\s*\Z", re.IGNORECASE)
# Statuses that do not depend on the range: no permission, or no such file.
_OTHER_CAUSES = frozenset({401, 403, 404, 407, 410, 451})
# Servers with defects always answer ranges like this, others only sometimes.
_DOUBTFUL = frozenset({500, 502})
# An open range, a closed range, and the whole file.
_FORMS = 3


class RangeError(SourceError):
    """A server refused a range; another range, or the whole file, may work."""


class TransientRangeError(TransientError):
    """A server failed at a range; the failure can be permanent."""


@dataclass(frozen=True)
class ContentRange:
    """The positions of the first and the last byte of a response, and the size of the file, or None if unknown."""

    first: int
    last: int
    size: int | None


def content_range(response: requests.Response) -> ContentRange | None:
    """Return the range in a response, or None for the whole file or contradictory headers."""
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code != HTTPStatus.PARTIAL_CONTENT or match is None:
        return None
    try:
        first, last = decimal(match[1], limit=LARGEST_SIZE), decimal(match[2], limit=LARGEST_SIZE)
        size = None if match[3] == "*" else decimal(match[3], limit=LARGEST_SIZE)
    except ValueError:
        return None
    length = response.headers.get("Content-Length", "").strip()
    return ContentRange(first, last, size) if first <= last and length in ("", str(last + 1 - first)) else None


def check_response(source_text: str, url: str, response: requests.Response, start: int | None) -> None:
    """Raise SourceError for a response without the byte ``start``, which is None for a request without a range.

    Raise RangeError if another range, or the whole file, may work.
    """
    if response.status_code == HTTPStatus.OK:
        return
    part = content_range(response)
    if part is not None and part.first <= (start or 0) <= part.last:
        return
    error = refused(source_text, url, response)
    if start is None or response.status_code in _OTHER_CAUSES:
        raise error
    if not isinstance(error, TransientError):
        raise RangeError(error.message, hint=error.hint)
    if response.status_code in _DOUBTFUL:
        raise TransientRangeError(error.message, hint=error.hint, wait=error.wait)
    raise error


Request = Callable[[int, int | None], AbstractContextManager[requests.Response]]
"""Requests the bytes from a position up to another one; 0 and None request the whole file, without a range."""
ReadBody = Callable[[requests.Response, int | None], Iterator[bytes]]
"""Yields the body of a response, of a size that may be unknown."""


class RangeReader:
    """Reads parts of one file: with an open range, a closed range, or the whole file, until the server accepts one."""

    def __init__(
        self, request: Request, read: ReadBody, source_text: str, *, ranges: bool = True, whole: bool = True
    ) -> None:
        """Allow to request ranges, and to read the ``whole`` file up to the wanted part."""
        self._request = request
        self._read = read
        self._source_text = source_text
        self._ranges = ranges
        self._whole = whole
        # How many of the forms the server refused.
        self._refused = 0

    @contextmanager
    def response(self, begin: int, end: int | None, *, closed: bool = False) -> Iterator[requests.Response]:
        """Open a response that contains the byte ``begin``; ``closed`` prefers a range that stops at ``end``.

        Raise SourceError, and RangeError if only the whole file would help, which is not allowed.
        """
        ranges = [(begin, end), (begin, None)] if closed else [(begin, None), (begin, end)]
        if not self._whole:
            # Optional reads try once.
            ranges = ranges[:1]
        forms = [*(ranges if self._ranges else []), *([(0, None)] if self._whole else [])]
        with ExitStack() as stack:
            yield self._first_accepted(list(dict.fromkeys(forms)), stack)

    def _first_accepted(self, forms: Sequence[tuple[int, int | None]], stack: ExitStack) -> requests.Response:
        last = len(forms) - 1
        for number in range(min(self._refused, last), len(forms)):
            try:
                return stack.enter_context(self._request(*forms[number]))
            except TransientRangeError:
                self._refused = number + 1
                raise
            except RangeError:
                if number == last:
                    raise
                self._refused = number + 1
        raise AssertionError("there is at least one form")

    def chunks(self, begin: int, end: int | None, *, cut: bool = False) -> Generator[bytes, None, None]:
        """Yield the bytes from ``begin`` to ``end``, or to the end of the file; raise SourceError.

        ``cut`` neither requests nor yields bytes after ``end``; otherwise, the reader has to notice those. A server
        may send less than requested (RFC 9110, 15.3.7): then request the rest.
        """
        position = begin
        while True:
            before = position
            with self.response(position, end, closed=cut) as response:
                part = content_range(response)
                if part is None and begin and not self._whole:
                    raise RangeError(
                        f"the server of {self._source_text!r} stopped supporting ranges",
                        hint="nothing: this data is optional",
                    )
                first = 0 if part is None else part.first
                length = None if cut else end
                body = self._read(response, length if part is None else part.last + 1 - first)
                for chunk in skip_bytes(body, position - first):
                    wanted = chunk[: end - position] if cut and end is not None else chunk
                    position += len(wanted)
                    yield wanted
                    if cut and end is not None and position >= end:
                        return
                goal = end if part is None or end is not None else part.size
                if part is None or goal is None or position >= goal:
                    return
                if position == before:
                    if self._refused > _FORMS:
                        raise broken_off(self._source_text, response.url, "the response is empty")
                    self._refused += 1

    def read(self, begin: int, length: int) -> bytes:
        """Return ``length`` bytes, fewer only at the end of the file; raise SourceError."""
        return b"".join(self.chunks(begin, begin + length, cut=True))
