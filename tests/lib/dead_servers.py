"""Hosts that are there and yet not: nobody answers, nobody accepts, nobody listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.lib.registry import LOOPBACK


@contextmanager
def mute_server() -> Iterator[int]:
    """The port of one that accepts, reads and never says a byte, nor begins TLS; ended with the block."""
    with socket.create_server((LOOPBACK, 0), backlog=64) as server, ExitStack() as accepted:
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                try:
                    client = accepted.enter_context(server.accept()[0])
                except OSError:
                    return
                threads.append(threading.Thread(target=_read, args=(client,)))
                threads[-1].start()

                def wake(client: socket.socket = client) -> None:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)

                accepted.callback(wake)

        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            threads[0].join()
            accepted.close()
            for thread in threads:
                thread.join()


def _read(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65536):
            pass


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
