"""Web servers that have an archive, on loopback: every answer can be made to order, and what was asked is kept.

What a server is like is a function from requests to replies. `Stored` is that of an ordinary one (RFC 9110, 14); tests
bend it where they want to know what a client makes of something else.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Final

from tests.lib.tls import Certificate

LOOPBACK: Final = "127.0.0.1"
PLACE: Final = "/images/root.oci"
_SPAN: Final = re.compile(r"bytes=(\d+)-(\d*)\Z")
_PIECE: Final = 65536


class Framing(Enum):
    """What tells where a body ends (RFC 9112, 6.3)."""

    LENGTH = "Content-Length"
    CLOSE = "HTTP/1.0 and the end of the connection"
    CHUNKED = "chunked transfer coding"


@dataclass(frozen=True)
class Asked:
    """One request: the `number` of it since the server began, its path with the query, headers in lower case, body."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, or empty."""
        return self.headers.get(name.lower(), "")

    @property
    def span(self) -> tuple[int, int | None] | None:
        """First and last byte of the range that is asked for; None for the whole."""
        match = _SPAN.match(self.header("Range"))
        return (int(match[1]), int(match[2]) if match[2] else None) if match else None


@dataclass(frozen=True)
class Reply:
    """An answer. After `cut` bytes of body the connection ends; `pauses` are bytes, and seconds to wait after them."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Framing = Framing.LENGTH
    cut: int | None = None
    pauses: Sequence[tuple[int, float]] = ()

    def having(self, **headers: str) -> Reply:
        """The same with headers added or replaced; underscores stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **named})


Answer = Callable[[Asked], Reply]


@dataclass(frozen=True)
class Stored:
    """A server's file. `most` is how much a range gives at once, `total` what is said of the size beside a range."""

    content: bytes
    ranges: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    framing: Framing = Framing.LENGTH
    most: int | None = None
    total: str | None = None

    def __call__(self, asked: Asked) -> Reply:
        """The file, or the part of it that is asked for."""
        headers = {"Content-Type": "application/octet-stream"}
        if self.etag is not None:
            headers["ETag"] = self.etag
        if self.modified is not None:
            headers["Last-Modified"] = self.modified
        size = len(self.content)
        condition = asked.header("If-Range")
        if not self.ranges or asked.span is None or (condition and condition not in {self.etag, self.modified}):
            return Reply(200, self.content, headers, self.framing)
        start, last = asked.span
        if start >= size:
            return Reply(416, headers={"Content-Range": f"bytes */{size}"})
        end = min(size, size if last is None else last + 1, size if self.most is None else start + self.most)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size if self.total is None else self.total}"
        return Reply(206, self.content[start:end], headers, self.framing)


@dataclass(frozen=True)
class Files:
    """All files of a directory, as they are when they are asked for."""

    top: Path

    def __call__(self, asked: Asked) -> Reply:
        """The file, or the part of it that is asked for."""
        path = self.top / asked.path.partition("?")[0].lstrip("/")
        return Stored(path.read_bytes(), etag=None)(asked) if path.is_file() else Reply(404)


def cut_at(answer: Answer, place: int, times: int = 1) -> Answer:
    """`answer`, but the first so many replies that have the byte at `place` of the file end right before it."""
    left = [times]

    def bent(asked: Asked) -> Reply:
        reply = answer(asked)
        start = asked.span[0] if asked.span and reply.status == 206 else 0
        if left[0] and start <= place < start + len(reply.body):
            left[0] -= 1
            return replace(reply, cut=place - start)
        return reply

    return bent


def flipped(content: bytes, place: int) -> bytes:
    """The same bytes but for the one at `place`."""
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


@dataclass
class ArchiveServer:
    """A running server, and what it was asked and sent so far; `sent` counts bytes of bodies."""

    port: int = 0
    tls: bool = False
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0

    def url(self, path: str = PLACE, *, login: str = "", host: str = LOOPBACK) -> str:
        """A URL here; `login` is `user:password`."""
        return f"{'https' if self.tls else 'http'}://{login}{'@' if login else ''}{host}:{self.port}{path}"


@contextmanager
def archive_server(answer: Answer, *, tls: Certificate | None = None) -> Iterator[ArchiveServer]:
    """A server on a free port; it and its connections have ended when the block ends.

    Raises ExceptionGroup where something went wrong in the server itself.
    """
    context = None
    if tls is not None:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
    listener = _Listener(answer, context)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.002})
    thread.start()
    try:
        yield listener.served
    finally:
        listener.end()
        thread.join()
        listener.server_close()
        if listener.errors:
            raise ExceptionGroup("the server failed", listener.errors)


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 64

    def __init__(self, answer: Answer, context: SSLContext | None) -> None:
        self.answer, self.context = answer, context
        self.errors: list[Exception] = []
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        super().__init__((LOOPBACK, 0), _Connection)
        self.served = ArchiveServer(self.server_address[1], context is not None)

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        with self.lock:
            for connection in self.open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        error = sys.exception()
        # A client that went away is none.
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)


class _Connection(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    server: _Listener
    request: socket.socket
    connection: socket.socket

    def setup(self) -> None:
        self.protocol_version = "HTTP/1.1"
        # To wake this thread by, whatever TLS makes of the other descriptor.
        self._waker = self.request.dup()
        with self.server.lock:
            self.server.open.add(self._waker)
        try:
            if self.server.context is not None:
                self.request = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:
            self._close()
            raise
        super().setup()

    def finish(self) -> None:
        super().finish()
        self._close()

    def _close(self) -> None:
        with self.server.lock:
            self.server.open.discard(self._waker)
        self._waker.close()
        if self.server.context is not None:
            self.request.close()

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        served = self.server.served
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        with self.server.lock:
            asked = Asked(len(served.asked), self.path, headers, body)
            served.asked.append(asked)
        self._send(self.server.answer(asked))

    def do_POST(self) -> None:
        self.do_GET()

    def _send(self, reply: Reply) -> None:
        if reply.framing is Framing.CLOSE:
            self.protocol_version = "HTTP/1.0"
            self.close_connection = True
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.framing is Framing.LENGTH:
            self.send_header("Content-Length", str(len(reply.body)))
        elif reply.framing is Framing.CHUNKED:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chunked = reply.framing is Framing.CHUNKED
        for piece, pause in _paced(reply):
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            with self.server.lock:
                self.server.served.sent += len(piece)
            if pause and self.server.ended.wait(pause):
                break
        if reply.cut is not None:
            self.close_connection = True
        elif chunked:
            self.connection.sendall(b"0\r\n\r\n")


def _paced(reply: Reply) -> Iterator[tuple[bytes, float]]:
    """Pieces of a reply's body, each with the pause after it."""
    rest = memoryview(reply.body if reply.cut is None else reply.body[: reply.cut])
    for count, pause in reply.pauses:
        yield bytes(rest[:count]), pause
        rest = rest[count:]
    while rest:
        yield bytes(rest[:_PIECE]), 0.0
        rest = rest[_PIECE:]
