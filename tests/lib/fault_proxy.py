"""A faulty server in front of a real registry (or any HTTP server on loopback): everything goes through it.

`with registry(directory) as real, fault_proxy(real, Rule(BLOBS, Fault(after=MIB))) as faulty:` breaks every blob off
once after a MiB; then `faulty.source(name)` is what to fetch, and `faulty.sent(digest)` what that took.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Final

from tests.lib.addressed import LOOPBACK
from tests.lib.fault_messages import Answer, Guard, Request
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.faults import Ranges, Rule, Script
from tests.lib.registry import Registry
from tests.lib.tls import Certificate

_PIECE: Final = 1 << 20
_SECONDS: Final = 60.0
# Of one connection, not of the message (RFC 9110, 7.6.1), or made anew on the way.
_OF_A_CONNECTION: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
)


@dataclass(frozen=True)
class Upstream:
    """What is behind a proxy; with a `guard` in front, logins do not reach it."""

    port: int
    tls: bool = False
    guarded: bool = False

    @contextmanager
    def answer(self, request: Request) -> Iterator[Answer]:
        """See `Backend`; raises RuntimeError if there is no answer."""
        dropped = {"connection", "content-length"} | ({"authorization"} if self.guarded else set())
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        target = f"{request.path}?{request.query}" if request.query and not self.guarded else request.path
        with closing(self._connection()) as connection:
            try:
                connection.request(request.method, target, headers=headers)
                response = connection.getresponse()
            except OSError as error:
                raise RuntimeError(f"the server behind the proxy does not answer {request.path}") from error
            with response:
                yield _passed_on(request, response)

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls:
            context = ssl._create_unverified_context()
            return http.client.HTTPSConnection(LOOPBACK, self.port, timeout=_SECONDS, context=context)
        return http.client.HTTPConnection(LOOPBACK, self.port, timeout=_SECONDS)


def _passed_on(request: Request, response: http.client.HTTPResponse) -> Answer:
    headers = {name: value for name, value in response.getheaders() if name.lower() not in _OF_A_CONNECTION}
    said = response.getheader("Content-Length")
    start = int((response.getheader("Content-Range") or "bytes 0-").split()[1].partition("-")[0])
    if said is None and request.method != "HEAD":
        body = response.read()
        return Answer(response.status, (body,), len(body), headers, start)
    return Answer(response.status, iter(lambda: response.read(_PIECE), b""), int(said or 0), headers, start)


def fault_proxy(
    behind: Registry | FaultServer,
    *rules: Rule,
    guard: Guard | None = None,
    ranges: Ranges = Ranges.HONEST,
    tls: Certificate | None = None,
) -> AbstractContextManager[FaultServer]:
    """A server that does to requests what `rules` say and asks `behind` for the rest; ended with the block.

    `guard` takes over the logins: the server behind must want none then.
    """
    upstream = Upstream(behind.port, bool(behind.tls), guard is not None)
    return fault_server(upstream, Script(rules), guard=guard, ranges=ranges, tls=tls)
