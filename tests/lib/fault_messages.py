"""What passes between the parts of a faulty server: requests, answers, and the record of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One request: `path` without the query; `base` is the scheme, host and port that the client used."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    base: str

    def header(self, name: str) -> str:
        """A header's value whatever the case of its name, or empty."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Answer:
    """An answer: `length` bytes in `chunks`, of a whole whose first `start` bytes were not asked for."""

    status: int
    chunks: Iterable[bytes] = ()
    length: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    start: int = 0

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """The same with headers replaced or added, whatever their case."""
        names = {name.lower() for name in headers}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in names}
        return replace(self, headers={**kept, **headers})


def whole(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer whose body is all there."""
    return Answer(status, (body,), len(body), headers or {})


class Backend(Protocol):
    """Where right answers come from."""

    def answer(self, request: Request) -> AbstractContextManager[Answer]:
        """The answer; its chunks are read within the block. Called by many threads."""


class Guard(Protocol):
    """Says who may ask."""

    def answer(self, request: Request) -> Answer | None:
        """What a request gets instead of the backend's answer; None lets it pass. Called by many threads."""


@dataclass
class Seen:
    """What became of one request.

    `range` and `authorization` are its headers, or empty; `sent` counts bytes of the body handed to the network so far;
    `at` is the monotonic time it came; `status` is 0 until there is one.
    """

    method: str
    path: str
    range: str
    authorization: str
    at: float
    status: int = 0
    sent: int = 0

    @property
    def start(self) -> int:
        """The byte that it asks to begin at."""
        return int(self.range.removeprefix("bytes=").partition("-")[0] or 0)


class Log:
    """Every request in the order they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []

    def see(self, request: Request) -> Seen:
        """Begins the record of a request."""
        seen = Seen(request.method, request.path, request.header("Range"), request.header("Authorization"), monotonic())
        with self._lock:
            self._seen.append(seen)
        return seen

    def asked(self, text: str = "", method: str = "GET") -> list[Seen]:
        """The requests by `method` whose path contains `text`."""
        with self._lock:
            return [seen for seen in self._seen if text in seen.path and seen.method == method]

    def sent(self, text: str = "") -> int:
        """Bytes of bodies sent for paths that contain `text`."""
        return sum(seen.sent for seen in self.asked(text))
