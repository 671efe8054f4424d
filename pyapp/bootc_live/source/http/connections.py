"""HTTP connections: whom they trust, and that they wait neither for ever nor after the program was told to end."""

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
from bootc_live.source.http.patience import Deadline, PatientSocket
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
        """Wait so long; returns false at once where all are shut, or get shut meanwhile."""
        return not self._shut.wait(seconds)

    def shut(self) -> None:
        """Wake whoever waits on one, from any thread: no more bytes come."""
        with self._lock:
            self._shut.set()
            for used in self._sockets:
                _shut(used)


class PatientAdapter(HTTPAdapter):
    """Sends one request and gives its answer: no redirects, cookies, retries, environment or inflating.

    It waits for so long only, trusts whom ``trust`` says, and tells which sockets it uses.
    """

    def __init__(self, sockets: Sockets, trust: Trust, proxies: Proxies, stall: float) -> None:
        """``stall`` is how many seconds an answer's headers, or the next piece of its body, may take."""
        self._used: dict[str, Any] = {"sockets": sockets, "stall": stall}
        self._trust = trust
        self._proxies = proxies
        self._timeout = (min(_CONNECT, stall), stall)
        super().__init__(pool_connections=_HOSTS, pool_maxsize=_CONNECTIONS)

    def send(self, request: requests.PreparedRequest, *_args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; raise RequestException and TrustError. With ``verify=False`` the server is not checked."""
        proxy = proxy_for(request.url or "", self._proxies)
        return super().send(
            request,
            stream=True,
            timeout=self._timeout,
            verify=bool(kwargs.get("verify", True)),
            proxies={"http": proxy, "https": proxy} if proxy else {},
        )

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, *_cert: Any, **_more: Any) -> Any:
        """Return which pool to use: connections of different trust are never shared."""
        parts = urlsplit(request.url)
        proxy = proxy_for(request.url, self._proxies) or ""
        tls: dict[str, Any] = {}
        if parts.scheme == "https":
            tls = {"ssl_context": self._trust.context(request.url, checked=bool(verify))}
        elif proxy.startswith("https:"):
            # Without a tunnel the connection is one to the proxy.
            tls = {"ssl_context": self._trust.context(proxy, checked=True)}
        return {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}, tls

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the pool's context says it all."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return an answer; cookies in it are not even read."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = CaseInsensitiveDict(resp.headers)
        response.raw = resp
        response.reason = resp.reason
        response.url = req.url or ""
        response.request = req
        return response

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools for a proxy; one that speaks TLS is checked, whatever is said of the servers behind it."""
        if proxy.startswith("https:"):
            kwargs["proxy_ssl_context"] = self._trust.context(proxy, checked=True)
        return super().proxy_manager_for(proxy, **kwargs)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return what to show to a proxy."""
        login = basic_login(proxy)
        return {"Proxy-Authorization": login} if login else {}

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return a pool whose connections are watched."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain: Any = pool.ConnectionCls
        if not issubclass(plain, _Watched):
            watched: Any = type(plain.__name__, (_Watched, plain), self._used)
            pool.ConnectionCls = watched
        return pool


class _Watched:
    """Mixed into a connection class of urllib3: every wait has an end, and its sockets can be shut."""

    sockets: Sockets
    stall: float
    sock: Any
    _deadline: Deadline | None = None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.sockets.add(self.sock)
        # TLS within the TLS of a proxy has a socket below.
        used = self.sock
        while used is not None:
            used.deadline = self._deadline
            used = getattr(used, "socket", None)

    def getresponse(self) -> Any:
        if self._deadline is None:
            return super().getresponse()  # type: ignore[misc]
        self._deadline.begin()
        response = super().getresponse()  # type: ignore[misc]
        # For whoever reads the body.
        response.begin_piece = self._deadline.begin
        return response

    def _new_conn(self) -> socket.socket:
        self._deadline = Deadline(self.stall)
        self._deadline.begin()
        used = PatientSocket.instead_of(super()._new_conn(), self._deadline)  # type: ignore[misc]
        self.sockets.add(used)
        return used


def _shut(used: socket.socket) -> None:
    # Ended by the other side, or closed, it needs no waking.
    with suppress(OSError, ValueError):
        used.shutdown(socket.SHUT_RDWR)
