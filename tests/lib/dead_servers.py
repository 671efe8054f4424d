"""Hosts that are there and yet not: nobody answers, nobody accepts, nobody listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from tests.lib.addressed import LOOPBACK

Talk = Callable[[socket.socket, threading.Event], None]


@contextmanager
def _server(talk: Talk) -> Iterator[int]:
    """The port of one that does `talk` with everybody who connects; all connections end with the block."""
    ended = threading.Event()
    clients: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                clients.append(server.accept()[0])
                threads.append(threading.Thread(target=_talking, args=(talk, clients[-1], ended)))
                threads[-1].start()

    with socket.create_server((LOOPBACK, 0), backlog=64) as server:
        accepting = threading.Thread(target=accept, args=(server,))
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for client in clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for client in clients:
                client.close()


def _talking(talk: Talk, client: socket.socket, ended: threading.Event) -> None:
    # Whoever is talked to may hang up at any time.
    with suppress(OSError):
        talk(client, ended)


def mute_server() -> AbstractContextManager[int]:
    """The port of one that accepts, reads and never says a byte, nor begins TLS."""

    def read(client: socket.socket, _ended: threading.Event) -> None:
        while client.recv(65536):
            pass

    return _server(read)


def dribbling_server() -> AbstractContextManager[int]:
    """The port of one whose first header never ends: a byte of it comes every tenth of a second."""

    def dribble(client: socket.socket, ended: threading.Event) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not ended.wait(0.1):
            client.sendall(b"x")

    return _server(dribble)


def babbling_server() -> AbstractContextManager[int]:
    """The port of one that is something else: it greets, and does not understand the answer."""

    def greet(client: socket.socket, _ended: threading.Event) -> None:
        client.sendall(b"SSH-2.0-test\r\n")
        client.recv(65536)
        client.sendall(b"Invalid identification string\r\n")
        client.shutdown(socket.SHUT_RDWR)

    return _server(greet)


@contextmanager
def full_server() -> Iterator[int]:
    """The port of one whose queue of connections is full: the kernel answers no further SYN. Ended with the block."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind((LOOPBACK, 0))
        server.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.1)
            try:
                waiting.connect(server.getsockname())
            except TimeoutError:
                break
        yield server.getsockname()[1]


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and that nobody else gets within the block."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield taken.getsockname()[1]
