"""HTTP connections: whom they trust, and that they wait neither for ever nor after the program was told to end."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter

from bootc_live.config.model import Proxies
from bootc_live.source.http.proxies import basic_login, proxy_for
from bootc_live.source.http.trust import Trust

# Seconds to connect.
_CONNECT = 20.0
_HOSTS = 16
_CONNECTIONS = 16


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
    """An adapter that waits for so long only, trusts whom ``trust`` says, and tells which sockets it uses."""

    def __init__(self, sockets: Sockets, trust: Trust, proxies: Proxies, stall: float) -> None:
        """``stall`` is how many seconds may pass without a byte."""
        self._sockets_in_use = sockets
        self._trust = trust
        self._proxies = proxies
        self._timeout = (min(_CONNECT, stall), stall)
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_CONNECTIONS)

    def send(self, request: requests.PreparedRequest, *_args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; raises RequestException.

        Certificates and proxies are chosen for the host of this request, which a redirect may have led to.
        """
        url = request.url or ""
        verify, certificate = self._trust.for_url(url)
        proxy = proxy_for(url, self._proxies)
        return super().send(
            request,
            stream=bool(kwargs.get("stream", False)),
            timeout=self._timeout,
            verify=verify,
            cert=certificate,
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give the pool for a proxy; one that speaks TLS is checked like any server."""
        if proxy.startswith("https:"):
            kwargs["proxy_ssl_context"] = self._trust.context_for(proxy)
        return super().proxy_manager_for(proxy, **kwargs)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Give what to show to a proxy."""
        login = basic_login(proxy)
        return {"Proxy-Authorization": login} if login else {}

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


def _shut(used: socket.socket) -> None:
    # Ended by the other side, or closed, it needs no waking.
    with suppress(OSError, ValueError):
        used.shutdown(socket.SHUT_RDWR)
