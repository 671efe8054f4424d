"""HTTP connections: whom they trust, and that they wait neither for ever nor after the program was told to end."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter

from bootc_live.base.errors import SourceError

# Seconds to connect, and without a byte while reading.
_TIMEOUT = (20.0, 60.0)


class Sockets:
    """The sockets of connections, for as long as they are in use."""

    def __init__(self) -> None:
        """Begin without any."""
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._shut = threading.Event()

    def add(self, used: socket.socket) -> None:
        """Take one in; where all were shut before, this one is shut at once."""
        with self._lock:
            self._sockets.add(used)
            if self._shut.is_set():
                _shut(used)

    def sleep(self, seconds: float) -> bool:
        """Wait so long; gives false at once where all are shut, or get shut meanwhile."""
        return not self._shut.wait(seconds)

    def shut(self) -> None:
        """Wake whoever waits on one, from any thread: no more bytes come."""
        with self._lock:
            self._shut.set()
            for used in self._sockets:
                _shut(used)


class PatientAdapter(HTTPAdapter):
    """An adapter with a timeout, where requests has none by default, that tells which sockets it uses."""

    def __init__(self, sockets: Sockets, connections: int) -> None:
        """Allow so many connections at once."""
        self._sockets_in_use = sockets
        super().__init__(pool_connections=connections, pool_maxsize=connections)

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; raises RequestException."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = _TIMEOUT
        return super().send(*args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Give a pool whose connections report their sockets."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain: Any = pool.ConnectionCls
        if not issubclass(plain, _Reporting):
            reporting: Any = type(plain.__name__, (_Reporting, plain), {"sockets": self._sockets_in_use})
            pool.ConnectionCls = reporting
        return pool


class _Reporting:
    """Mixed into a connection class of urllib3."""

    sockets: Sockets
    sock: socket.socket

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sockets.add(self.sock)


def check_authorities(paths: Iterable[str]) -> None:
    """Raise SourceError for a CA file that is none: one of them would make all HTTPS fail."""
    for path in paths:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            raise SourceError(
                f"the CA file {path!r} cannot be used: {error.strerror or error}",
                hint="put certificates in PEM form there, or take the file away",
            ) from error


def _shut(used: socket.socket) -> None:
    # Ended by the other side, or closed, it needs no waking.
    with suppress(OSError, ValueError):
        used.shutdown(socket.SHUT_RDWR)
