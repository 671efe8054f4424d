"""Parts of what a server has (RFC 9110, 14): they save time, and a server that has none of them gives the whole.

Nothing is compared but the places of bytes: entity tags differ between the nodes of a network and stay the same for
other content. Digests tell what came.
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
from bootc_live.source.retry import TransientError, skipped

_CONTENT_RANGE = re.compile(r"bytes[ =]+([0-9]+)-([0-9]+)/([0-9]+|\*)\s*\Z", re.IGNORECASE)
# Answers that would be the same without a range: who may ask, and what is not there.
_OF_OTHER_THINGS = frozenset({401, 403, 404, 407, 410, 451})
# What servers with defects answer to a range each time, others once in a while.
_DOUBTFUL = frozenset({500, 502})
# An open range, a closed one, the whole.
_MOST_WAYS = 3


class RangeError(SourceError):
    """A server gives no such part; it may give another one, or the whole."""


class DoubtfulRangeError(TransientError):
    """A server failed over a part; it may do so each time."""


@dataclass(frozen=True)
class Part:
    """The bytes of an answer: the places of the first and the last one, and how many the whole has, if that is told."""

    first: int
    last: int
    size: int | None


def part_of(response: requests.Response) -> Part | None:
    """Return which part an answer is; None for the whole, and for what does not say, or not clearly, what it is."""
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if response.status_code != HTTPStatus.PARTIAL_CONTENT or match is None:
        return None
    try:
        first, last = decimal(match[1], limit=LARGEST_SIZE), decimal(match[2], limit=LARGEST_SIZE)
        size = None if match[3] == "*" else decimal(match[3], limit=LARGEST_SIZE)
    except ValueError:
        return None
    stated = response.headers.get("Content-Length", "").strip()
    # A server that contradicts itself is not believed.
    return Part(first, last, size) if first <= last and stated in ("", str(last + 1 - first)) else None


def check_answer(typed: str, url: str, response: requests.Response, start: int | None) -> None:
    """Raise SourceError for an answer that has not got the byte ``start``; None where no part was asked for.

    It is RangeError where asking for another part, or for the whole, may help.
    """
    if response.status_code == HTTPStatus.OK:
        return
    part = part_of(response)
    if part is not None and part.first <= (start or 0) <= part.last:
        return
    error = refused(typed, url, response)
    if start is None or response.status_code in _OF_OTHER_THINGS:
        raise error
    if not isinstance(error, TransientError):
        raise RangeError(error.message, hint=error.hint)
    if response.status_code in _DOUBTFUL:
        raise DoubtfulRangeError(error.message, hint=error.hint, wait=error.wait)
    raise error


Ask = Callable[[int, int | None], AbstractContextManager[requests.Response]]
"""Asks for a byte and what follows, up to before another; for 0 and None, without a range, for the whole."""
Read = Callable[[requests.Response, int | None], Iterator[bytes]]
"""Gives the body of an answer, of so many bytes where that is known."""


class Asking:
    """Asks one server for one thing, each time in another way than was refused: two kinds of range, the whole."""

    def __init__(self, ask: Ask, read: Read, typed: str, *, parts: bool = True, whole: bool = True) -> None:
        """``parts`` allows to ask for ranges, ``whole`` to read all that is before the part that is wanted."""
        self._ask = ask
        self._read = read
        self._typed = typed
        self._parts = parts
        self._whole = whole
        self._refused = 0

    @contextmanager
    def answer(self, begin: int, end: int | None, *, closed: bool = False) -> Iterator[requests.Response]:
        """Return an answer that has the byte ``begin``; ``closed`` asks for no more than is wanted first.

        Raise SourceError; RangeError where that would take reading the whole, and it may not.
        """
        ranges = [(begin, end), (begin, None)] if closed else [(begin, None), (begin, end)]
        if not self._whole:
            # Who can do without asks once.
            ranges = ranges[:1]
        ways = [*(ranges if self._parts else []), *([(0, None)] if self._whole else [])]
        ways = list(dict.fromkeys(ways))
        with ExitStack() as stack:
            yield self._answer(ways, stack)

    def _answer(self, ways: Sequence[tuple[int, int | None]], stack: ExitStack) -> requests.Response:
        last = len(ways) - 1
        for number in range(min(self._refused, last), len(ways)):
            try:
                return stack.enter_context(self._ask(*ways[number]))
            except DoubtfulRangeError:
                self._refused = number + 1
                raise
            except RangeError:
                if number == last:
                    raise
                self._refused = number + 1
        raise AssertionError("there is one way at least")

    def pieces(self, begin: int, end: int | None, *, cut: bool = False) -> Generator[bytes, None, None]:
        """Return what is from ``begin`` on up to ``end``, or to the end of it all; raise SourceError.

        ``cut`` asks for no more, and gives no more; else it is whoever reads that notices what is too much. A server
        may give less than was asked for (RFC 9110, 15.3.7): then the rest is asked for.
        """
        position = begin
        while True:
            before = position
            with self.answer(position, end, closed=cut) as response:
                part = part_of(response)
                if part is None and begin and not self._whole:
                    raise RangeError(
                        f"the server of {self._typed!r} does not answer ranges any more", hint="this is not needed"
                    )
                first = 0 if part is None else part.first
                length = None if cut else end
                body = self._read(response, length if part is None else part.last + 1 - first)
                for piece in skipped(body, position - first):
                    wanted = piece[: end - position] if cut and end is not None else piece
                    position += len(wanted)
                    yield wanted
                    if cut and end is not None and position >= end:
                        return
                goal = end if part is None or end is not None else part.size
                if part is None or goal is None or position >= goal:
                    return
                if position == before:
                    if self._refused > _MOST_WAYS:
                        raise broken_off(self._typed, response.url, "the answer is empty")
                    self._refused += 1


def few(asking: Asking, begin: int, length: int) -> bytes:
    """Return the bytes at a place by one answer, fewer only at the end; raise SourceError where that is no range."""
    found = b""
    for piece in asking.pieces(begin, begin + length, cut=True):
        found += piece
    return found
