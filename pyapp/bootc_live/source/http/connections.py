"""HTTP connections with configured trust, deadlines, and a way to shut them all down."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from bootc_live.config.model import Proxies
from bootc_live.source.http.deadline import Deadline, DeadlineSocket
from bootc_live.source.http.proxies import basic_login, proxy_for
from bootc_live.source.http.trust import Trust

# Seconds to connect.
_CONNECT = 20.0
_HOSTS = 16
_CONNECTIONS = 16


class SocketSet:
    """The sockets in use."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._ended = threading.Event()

    def add(self, used: socket.socket) -> None:
        """Add a socket; after ``shut_down``, shut it down."""
        with self._lock:
            self._sockets.add(used)
            if self._ended.is_set():
                _shut_down(used)

    def sleep(self, seconds: float) -> bool:
        """Wait, and return True; return False as soon as the sockets are shut down."""
        return not self._ended.wait(seconds)

    def shut_down(self) -> None:
        """Shut down all sockets, which wakes the threads that wait for them."""
        with self._lock:
            self._ended.set()
            for used in self._sockets:
                _shut_down(used)


class RequestAdapter(HTTPAdapter):
    """Sends single requests, without redirects, cookies, retries, the environment or decompression.

    It applies deadlines and ``trust``, and adds its sockets to a ``SocketSet``.
    """

    def __init__(self, sockets: SocketSet, trust: Trust, proxies: Proxies, stall: float) -> None:
        """Allow ``stall`` seconds for the headers of a response, and for each chunk of its body."""
        self._attributes: dict[str, Any] = {"sockets": sockets, "stall": stall}
        self._trust = trust
        self._proxies = proxies
        self._timeout = (min(_CONNECT, stall), stall)
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_CONNECTIONS)

    def send(self, request: requests.PreparedRequest, *_args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; raise RequestException and TrustError. ``verify=False`` does not verify the server."""
        proxy = proxy_for(request.url or "", self._proxies)
        return super().send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=bool(kwargs.get("verify", True)),
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, *_cert: Any, **_more: Any) -> Any:
        """Return the key of a connection pool; requests with different trust never share connections."""
        parts = urlsplit(request.url)
        proxy = proxy_for(request.url, self._proxies) or ""
        tls: dict[str, Any] = {}
        if parts.scheme == "https":
            tls = {"ssl_context": self._trust.context(request.url, checked=bool(verify))}
        elif proxy.startswith("https:"):
            # Without a tunnel, the TLS connection ends at the proxy.
            tls = {"ssl_context": self._trust.context(proxy, checked=True)}
        return {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}, tls

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the TLS context has all settings."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return a response, without reading its cookies."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw = resp
        response.reason = resp.reason
        response.url = req.url or ""
        response.request = req
        return response

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools for a proxy; a proxy with TLS is always verified."""
        if proxy.startswith("https:"):
            kwargs["proxy_ssl_context"] = self._trust.context(proxy, checked=True)
        return super().proxy_manager_for(proxy, **kwargs)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the headers for a proxy."""
        login = basic_login(proxy)
        return {"Proxy-Authorization": login} if login else {}

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections are tracked and have deadlines."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain: Any = pool.ConnectionCls
        if not issubclass(plain, _TrackedConnection):
            pool.ConnectionCls = type(plain.__name__, (_TrackedConnection, plain), self._attributes)
        return pool


class _TrackedConnection:
    """A mixin for urllib3's connection classes: sockets have deadlines and can be shut down."""

    sockets: SocketSet
    stall: float
    sock: Any
    _deadline: Deadline | None = None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sockets.add(self.sock)
        # TLS through a proxy with TLS has nested sockets.
        used = self.sock
        while used is not None:
            used.deadline = self._deadline
            used = getattr(used, "socket", None)

    def getresponse(self) -> Any:
        if self._deadline is None:
            return super().getresponse()  # type: ignore[misc]
        self._deadline.begin()
        response = super().getresponse()  # type: ignore[misc]
        # HttpClient.body uses this.
        response.begin_chunk = self._deadline.begin
        return response

    def _new_conn(self) -> socket.socket:
        self._deadline = Deadline(self.stall)
        self._deadline.begin()
        used = DeadlineSocket.replace(super()._new_conn(), self._deadline)  # type: ignore[misc]
        self.sockets.add(used)
        return used


def _shut_down(used: socket.socket) -> None:
    # Closed sockets need no shutdown.
    with suppress(OSError, ValueError):
        used.shutdown(socket.SHUT_RDWR)
