"""Servers that pass bytes on to another port of loopback, a thread for each connection; one of them adds TLS."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Final

from tests.lib.addressed import LOOPBACK
from tests.lib.tls import Certificate

_PIECE: Final = 1 << 16


class RelayServer(ThreadingTCPServer):
    """A server on a free port whose connections all end with it."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, handler: type[BaseRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._ended = False
        super().__init__((LOOPBACK, 0), handler)

    @property
    def port(self) -> int:
        """The port on loopback."""
        return int(self.server_address[1])

    def enter(self, connection: socket.socket) -> None:
        """Takes note of a connection that may have to be ended."""
        with self._lock:
            self._open.add(connection)
            if self._ended:
                _shut(connection)

    def leave(self, connection: socket.socket) -> None:
        """Forgets a connection."""
        with self._lock:
            self._open.discard(connection)

    def handle_error(self, *_: object) -> None:
        """Says nothing: a client that goes away, or has no certificate, is what tests are about."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serves within the block."""
        with self:
            thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()
                with self._lock:
                    self._ended = True
                    for connection in self._open:
                        _shut(connection)


def pump(server: RelayServer, one: socket.socket, port: int) -> None:
    """Passes bytes on between a connection and a new one to `port`, until one side ends."""
    with socket.create_connection((LOOPBACK, port)) as other, suppress(OSError):
        server.enter(one)
        server.enter(other)
        try:
            while _passed(one, other):
                pass
        finally:
            server.leave(one)
            server.leave(other)


def _passed(one: socket.socket, other: socket.socket) -> bool:
    # What TLS has taken in already makes no socket ready.
    pending = isinstance(one, ssl.SSLSocket) and one.pending()
    ready = [one] if pending else select.select([one, other], [], [])[0]
    for source in ready:
        data = source.recv(_PIECE)
        if not data:
            return False
        (other if source is one else one).sendall(data)
    return True


@contextmanager
def tls_front(
    target: int,
    certificate: Certificate,
    *,
    clients: Certificate | None = None,
    version: ssl.TLSVersion | None = None,
) -> Iterator[int]:
    """The port of a server that speaks TLS, in one `version` if it is given, for the plain one at `target`.

    With `clients`, only those with a certificate of that authority get through.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if clients is not None:
        context.load_verify_locations(clients.certificate)
        context.verify_mode = ssl.CERT_REQUIRED

    class Front(BaseRequestHandler):
        def handle(self) -> None:
            with context.wrap_socket(self.request, server_side=True) as client:
                pump(server, client, target)

    server = RelayServer(Front)
    with server.running():
        yield server.port


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
