"""Servers that look busy: bytes that are no progress gain no time, whichever part of an answer they are."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path

import pytest
import requests

from bootc_live.base.errors import SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.source.access import Access
from bootc_live.source.http.client import HttpClient, http_client
from bootc_live.source.http.deadline import Deadline
from bootc_live.source.retry import RetryPolicy
from tests.lib.fetching import quiet
from tests.lib.tls import make_server

STALL = 0.4
DRIP = 0.05
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "one long header": (b"HTTP/1.1 200 OK\r\nA: ", b"b"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "size of a chunk": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"5;a=", b"b"),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"A: b\r\n"),
    "one long trailer": (CHUNKED + b"1\r\nx\r\n0\r\nA: ", b"b"),
}


@contextmanager
def dripping(begin: bytes, more: bytes, pause: float, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL of a server that begins so, and goes on with `more` for ever."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        accepted = listener.accept()[0]
        with suppress(OSError), closing(tls.wrap_socket(accepted, server_side=True) if tls else accepted) as connection:
            connection.recv(65536)
            for piece in chain([begin], repeat(more)):
                connection.sendall(piece)
                if ended.wait(pause):
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        ended.set()
        listener.close()
        thread.join()


def read(web: HttpClient, url: str) -> bytes:
    with closing(web.send(url, {}, checked=False)) as response:
        return b"".join(web.body(response))


def check_end(begin: bytes, more: bytes, pause: float, root: Path, tls: ssl.SSLContext | None = None) -> None:
    policy = RetryPolicy(RetryLimits(tries=1, stall=STALL, total=90.0))
    with (
        dripping(begin, more, pause, tls) as url,
        http_client(Access(quiet, policy=policy, root=str(root)), "source") as web,
    ):
        start = time.monotonic()
        with pytest.raises((requests.RequestException, SourceError)):
            read(web, url)
        assert time.monotonic() - start < 60, "it did not end by itself"


@pytest.mark.parametrize("pause", [DRIP, 0.0], ids=["slowly", "fast"])
@pytest.mark.parametrize(("begin", "more"), DRIPS.values(), ids=DRIPS.keys())
def test_drips_end(begin: bytes, more: bytes, pause: float, tmp_path: Path) -> None:
    """Fast ones may end by a limit of their own, before the time is over."""
    check_end(begin, more, pause, tmp_path)


@pytest.mark.parametrize("drip", ["headers", "trailers"])
def test_drips_over_tls_end(drip: str, tmp_path: Path) -> None:
    made = make_server(tmp_path, None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    check_end(*DRIPS[drip], DRIP, tmp_path, context)


def test_a_deadline_begins_again() -> None:
    deadline = Deadline(600.0)
    assert deadline.left() == float("inf")
    deadline.begin()
    assert 500 < deadline.left() <= 600
    late = Deadline(-1.0)
    late.begin()
    with pytest.raises(TimeoutError):
        late.left()
