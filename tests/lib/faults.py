"""Faults: what a server that misbehaves does with a request, and with which requests. Nothing here opens a socket."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum
from time import time
from typing import Final, Protocol

MIB: Final = 2**20
BLOBS: Final = "/blobs/"
MANIFESTS: Final = "/manifests/"
TOKEN: Final = "/token"
EVERYTHING: Final = "/"


class End(Enum):
    """How a connection ends, or does not."""

    CLOSE = "in order: FIN, and close_notify where it is TLS"
    CUT = "FIN, but no close_notify where it is TLS"
    RESET = "RST, once the other side has acknowledged what was sent"
    SILENCE = "never, and nothing more is said: what comes in is acknowledged and not answered"


class Ranges(Enum):
    """What a server makes of Range headers (RFC 9110, 14)."""

    HONEST = "what was asked for"
    NONE = "it has never heard of them: 200 and the whole body"
    WRONG_HEADER = "206 and the right bytes, said to begin at byte 0"
    WRONG_BYTES = "206 and the right header, over bytes that begin at byte 0"


class Framing(Enum):
    """How a body says where it ends (RFC 9112, 6)."""

    LENGTH = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    CLOSE = "the end of the connection"


@dataclass(frozen=True)
class Trickle:
    """So many bytes, then a pause of so many seconds."""

    size: int
    seconds: float


@dataclass(frozen=True)
class Fault:
    """What to do with one request instead of answering it well; the parts can be combined.

    Instead of the answer: `silent` (no byte of one before the `end`, which is SILENCE if none is given), `status`,
    `redirect` (a 307 to the same path at this base URL; the empty text is the server itself; `query` follows a question
    mark).
    To the answer: `headers` are added or replaced; `delay` seconds pass before it.
    To the body: `body` replaces it, whatever range was asked for; the byte at `flip` of the whole is changed; the last
    `short` bytes are left out or `extra` bytes follow, and Content-Length is right for what is left.
    Content-Length is `length` too large, whatever the body, or there is none with another `framing`.
    `after` so many bytes of the body, or after the whole, the connection meets its `end`; without `after` and `end` it
    is kept for the next request.
    """

    status: int | None = None
    redirect: str | None = None
    query: str = ""
    headers: Mapping[str, str | Callable[[], str]] = field(default_factory=dict)
    silent: bool = False
    delay: float = 0.0
    body: bytes | None = None
    flip: int | None = None
    short: int = 0
    extra: int = 0
    length: int = 0
    framing: Framing = Framing.LENGTH
    after: int | None = None
    end: End | None = None
    trickle: Trickle | None = None

    @property
    def ending(self) -> End | None:
        """How the connection ends after the answer; None keeps it."""
        closes = self.after is not None or self.framing is Framing.CLOSE
        return End.CLOSE if self.end is None and closes else self.end


GOOD: Final = Fault()


@dataclass(frozen=True)
class Rule:
    """A fault for requests whose path contains `where`: the first `times` of them, or all (None).

    `each` counts them for every path by itself. The first `spared` requests that it would take are answered well.
    """

    where: str
    fault: Fault
    times: int | None = 1
    each: bool = True
    spared: int = 0


class Plan(Protocol):
    """Says what happens to requests."""

    def fault(self, path: str) -> Fault:
        """The fault of one more request for `path`; `GOOD` for none. Called by many threads."""


class Script:
    """Rules in order: the first one that still takes a request decides. Counts what it took."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._lock = threading.Lock()
        self._seen: Counter[tuple[int, str]] = Counter()

    def fault(self, path: str) -> Fault:
        """See `Plan`."""
        with self._lock:
            for number, rule in enumerate(self._rules):
                if rule.where in path:
                    key = (number, path if rule.each else "")
                    self._seen[key] += 1
                    turn = self._seen[key] - rule.spared
                    if turn > 0 and (rule.times is None or turn <= rule.times):
                        return rule.fault
        return GOOD


def http_date(seconds: float) -> Callable[[], str]:
    """A header's value: the time so many seconds after it is asked for, as HTTP has dates (RFC 9110, 5.6.7)."""
    return lambda: formatdate(time() + seconds, usegmt=True)
