"""The connections of a faulty server: reads requests, sends answers as slowly and as badly as a fault wants it."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import sys
import termios
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Final
from urllib.parse import urlsplit

from tests.lib.addressed import LOOPBACK
from tests.lib.fault_body import changed, first, misranged, pieces
from tests.lib.fault_messages import Answer, Backend, Guard, Log, Request, Seen, whole
from tests.lib.faults import GOOD, End, Fault, Framing, Plan, Ranges

# Small enough for counts to follow what the other side takes, large enough to be quick.
_PIECE: Final = 65536
_UNSENT_SECONDS: Final = 120.0
_GOODBYE_SECONDS: Final = 0.5
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Behaviour:
    """Where answers come from, what is done to them, and where that is written down."""

    backend: Backend
    plan: Plan
    guard: Guard | None
    ranges: Ranges
    log: Log


class Listener(ThreadingHTTPServer):
    """Accepts connections and gives each a thread; `errors` are those of the server itself."""

    daemon_threads = False
    request_queue_size = 256

    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None) -> None:
        self.behaviour, self.context = behaviour, context
        self.ended = threading.Event()
        self.errors: list[Exception] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__((LOOPBACK, 0), Connection)

    def end(self) -> None:
        """Ends the accepting and all connections, whatever they were doing."""
        self.ended.set()
        self.shutdown()
        with self._lock:
            for connection in self._open:
                _shut(connection)

    def enter(self, connection: socket.socket) -> None:
        """Takes note of an open connection; one that comes too late ends at once."""
        with self._lock:
            self._open.add(connection)
            if self.ended.is_set():
                _shut(connection)

    def leave(self, connection: socket.socket) -> None:
        """Forgets a connection."""
        with self._lock:
            self._open.discard(connection)

    def handle_error(self, *_: object) -> None:
        """Keeps an error, unless it is only a client that went away."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)


class Connection(BaseHTTPRequestHandler):
    """One connection and its requests, one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener
    request: socket.socket
    connection: socket.socket

    def setup(self) -> None:
        """Takes the connection; the handshake of TLS is here, in the connection's own thread."""
        self.server.enter(self.request)
        if self.server.context is not None:
            plain = self.request
            self.request = self.server.context.wrap_socket(plain, server_side=True)
            self.server.leave(plain)
            self.server.enter(self.request)
        super().setup()

    def finish(self) -> None:
        """Lets the connection go."""
        super().finish()
        self.server.leave(self.request)
        if self.server.context is not None:
            self.request.close()

    def log_message(self, *_: object) -> None:
        """Says nothing: the server has a log."""

    def do_GET(self) -> None:
        """Answers a request, well or not."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request, behaviour = self._asked(), self.server.behaviour
        self._seen = behaviour.log.see(request)
        refusal = None if behaviour.guard is None else behaviour.guard.answer(request)
        if refusal is not None and refusal.status == 401:
            # A plan is for requests that are allowed: a login on the way to one does not use it up.
            self._send(refusal, GOOD)
            return
        fault = behaviour.plan.fault(request.path)
        if fault.delay and self.server.ended.wait(fault.delay):
            self.close_connection = True
        elif fault.silent:
            self._end(fault.end or End.SILENCE)
        elif fault.redirect is not None:
            to = (fault.redirect or request.base) + request.path + (f"?{fault.query}" if fault.query else "")
            self._send(Answer(307, headers={"Location": to}), fault)
        elif fault.status is not None:
            self._send(whole(fault.status, fault.body or b""), fault)
        elif refusal is not None:
            self._send(changed(refusal, fault), fault)
        else:
            self._pass_on(request, fault)

    def do_HEAD(self) -> None:
        """Answers without a body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answers as it does without a form."""
        self.do_GET()

    def _asked(self) -> Request:
        parts = urlsplit(self.path)
        base = f"{'https' if self.server.context else 'http'}://{self.headers['Host']}"
        return Request(self.command, parts.path, parts.query, dict(self.headers.items()), base)

    def _pass_on(self, request: Request, fault: Fault) -> None:
        ranges = self.server.behaviour.ranges
        if ranges in {Ranges.NONE, Ranges.WRONG_BYTES}:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "range"}
            request = Request(request.method, request.path, request.query, headers, request.base)
        with self.server.behaviour.backend.answer(request) as answer:
            self._send(changed(misranged(answer, self._seen.start, ranges), fault), fault)

    def _send(self, answer: Answer, fault: Fault) -> None:
        self._seen.status = answer.status
        added = {name: value if isinstance(value, str) else value() for name, value in fault.headers.items()}
        framing = {
            Framing.LENGTH: {"Content-Length": str(max(0, answer.length + fault.length))},
            Framing.CHUNKED: {"Transfer-Encoding": "chunked"},
            Framing.CLOSE: {"Connection": "close"},
        }[fault.framing]
        self.send_response(answer.status)
        for name, value in answer.with_headers({**framing, **added}).headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(answer, fault, self._seen)
        if fault.ending is not None:
            self._end(fault.ending)

    def _send_body(self, answer: Answer, fault: Fault, seen: Seen) -> None:
        chunks = answer.chunks if fault.after is None else first(answer.chunks, fault.after)
        for piece in pieces(chunks, fault.trickle.size if fault.trickle else _PIECE):
            chunked = fault.framing is Framing.CHUNKED
            # Before it is: who has it all may look at once.
            seen.sent += len(piece)
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if fault.trickle and self.server.ended.wait(fault.trickle.seconds):
                self.close_connection = True
                return
        if fault.framing is Framing.CHUNKED and fault.after is None:
            self.connection.sendall(b"0\r\n\r\n")

    def _end(self, how: End) -> None:
        self.close_connection = True
        if how is End.SILENCE:
            self.server.ended.wait()
        elif how is End.RESET:
            _wait_until_taken(self.connection)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            # The reading side shares the descriptor: only its last close breaks the connection.
            self.rfile.close()
            self.connection.close()
        elif how is End.CLOSE and isinstance(self.connection, ssl.SSLSocket):
            self.connection.settimeout(_GOODBYE_SECONDS)
            with suppress(OSError, ValueError):
                self.connection.unwrap()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        # Of TLS it is the transport that ends: no goodbye is said, and none waited for.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _wait_until_taken(connection: socket.socket) -> None:
    """Waits until the other side has acknowledged all that was sent: a reset throws away the rest."""
    deadline = monotonic() + _UNSENT_SECONDS
    while monotonic() < deadline:
        if struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0] == 0:
            return
        sleep(0.001)
