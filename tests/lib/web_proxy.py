"""An HTTP proxy (RFC 9110, 7.3.2 and 9.3.6): CONNECT and absolute URIs, with a login if that is wanted.

It resolves names by a table of its own: what has a name that only it knows must have come through it.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Final
from urllib.parse import urlsplit

from tests.lib.addressed import LOOPBACK
from tests.lib.htpasswd import User
from tests.lib.relay import RelayServer, pump

_PIECE: Final = 1 << 16
_OF_A_CONNECTION: Final = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive"})


@dataclass(frozen=True)
class Asked:
    """One request: the target is `HOST:PORT` for CONNECT, else a URL; `login` is whether the right one was shown."""

    method: str
    target: str
    login: bool


@dataclass(frozen=True)
class WebProxy:
    """A running proxy and what it was asked, in order; `headers` are those it passed on to servers, all in one."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Host and port."""
        return f"{LOOPBACK}:{self.port}"

    def passed(self, method: str = "") -> list[str]:
        """The targets of requests that were let through."""
        return [asked.target for asked in self.asked if asked.login and asked.method.startswith(method)]


class _Server(RelayServer):
    """The proxy's socket, and by what it decides."""

    def __init__(self, hosts: Mapping[str, int], user: User | None, refused: int | None) -> None:
        super().__init__(_Handler)
        self.hosts, self.refused = hosts, refused
        self.login = f"Basic {user.encoded}" if user else None
        self.proxy = WebProxy(self.port)


class _Handler(BaseHTTPRequestHandler):
    """One connection: a tunnel, or requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_CONNECT(self) -> None:
        """Becomes a tunnel."""
        port = self._allowed(self.path)
        if port is not None:
            self.send_response(200, "Connection established")
            self.end_headers()
            self.close_connection = True
            pump(self.server, self.connection, port)

    def do_GET(self) -> None:
        """Asks the server that the URL names."""
        port = self._allowed(urlsplit(self.path).netloc)
        if port is not None:
            self._pass_on(port)

    def log_message(self, *_: object) -> None:
        """Says nothing: what was asked is in the list."""

    def setup(self) -> None:
        """Takes the connection."""
        super().setup()
        self.server.enter(self.connection)

    def finish(self) -> None:
        """Lets the connection go."""
        super().finish()
        self.server.leave(self.connection)

    def _allowed(self, host: str) -> int | None:
        """The port to go on to; None once the request is refused."""
        login = self.server.login
        known = login is None or self.headers.get("Proxy-Authorization") == login
        self.server.proxy.asked.append(Asked(self.command, self.path, known))
        name, _, port = host.rpartition("@")[2].partition(":")
        target = self.server.hosts.get(host) or (int(port or 80) if name in {LOOPBACK, "localhost"} else None)
        status = 407 if not known else self.server.refused or (502 if target is None else None)
        if status is None:
            return target
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _pass_on(self, port: int) -> None:
        url = urlsplit(self.path)
        headers = {name: text for name, text in self.headers.items() if name.lower() not in _OF_A_CONNECTION}
        self.server.proxy.headers.append(str(headers))
        with closing(http.client.HTTPConnection(LOOPBACK, port)) as connection:
            connection.request(self.command, f"{url.path}?{url.query}" if url.query else url.path, headers=headers)
            with connection.getresponse() as response:
                self.send_response(response.status)
                for name, text in response.getheaders():
                    if name.lower() not in _OF_A_CONNECTION | {"transfer-encoding"}:
                        self.send_header(name, text)
                self.close_connection = response.getheader("Content-Length") is None
                self.end_headers()
                while piece := response.read(_PIECE):
                    self.wfile.write(piece)


@contextmanager
def web_proxy(
    hosts: Mapping[str, int] | None = None, *, user: User | None = None, refused: int | None = None
) -> Iterator[WebProxy]:
    """A proxy that knows `hosts`, ports of loopback by `NAME[:PORT]`, and loopback itself; ended with the block.

    It serves everybody or only `user`; `refused` is the status it gives to all instead of what they want.
    """
    server = _Server(hosts or {}, user, refused)
    with server.running():
        yield server.proxy
