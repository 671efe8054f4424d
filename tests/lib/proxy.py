"""A TCP proxy on loopback that lets a number of bytes of answers through and then does something nasty."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Final

_CHUNK: Final = 65536


class Then(Enum):
    """What happens once the bytes are used up."""

    STALL = "says nothing more, and keeps the connection open"
    CUT = "closes the connection"


class Proxy:
    """A running proxy. Clients connect to `port`; `passed` is set once the limit is reached."""

    def __init__(self, target: int, limit: int, then: Then) -> None:
        self._target, self._left, self._then = target, limit, then
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self.passed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        """Ends all connections and threads."""
        self._ended.set()
        with self._lock:
            for open_socket in (self._server, *self._sockets):
                with suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for open_socket in (self._server, *self._sockets):
            open_socket.close()

    def _start(self, work: object, *arguments: socket.socket) -> None:
        assert callable(work)
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._sockets += [client, server]
            self._start(self._questions, client, server)
            self._start(self._answers, server, client)

    def _questions(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(_CHUNK):
                with self._lock:
                    allowed = data[: self._left]
                    self._left -= len(allowed)
                client.sendall(allowed)
                if len(allowed) < len(data):
                    self.passed.set()
                    if self._then is Then.CUT:
                        break
                    self._ended.wait()
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def limiting(target: int, limit: int, then: Then) -> Iterator[Proxy]:
    """A proxy for the loopback port `target` that passes `limit` bytes of answers on; closed with the block."""
    proxy = Proxy(target, limit, then)
    try:
        yield proxy
    finally:
        proxy.close()
