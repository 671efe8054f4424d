"""One place that serves a repository: a registry or a mirror of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import requests
from oras.provider import Registry

from bootc_live.base.redact import redact
from bootc_live.config.host.routes import Endpoint
from bootc_live.source.http.body import limited
from bootc_live.source.http.errors import refused
from bootc_live.source.http.web import Web, from_asked, origin_of
from bootc_live.source.registry.login import RegistryLogin
from bootc_live.source.retry import TransientError

# Docker Hub's API lives under another name than the one in references.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}

_WANTS_LOGIN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class Place:
    """Asks one endpoint. oras-py asks again after a challenge; ``Web`` sends the requests.

    What is said of trusting an endpoint counts for it alone: neither for another one on the same host, nor for its
    token service or storage elsewhere.
    """

    def __init__(self, web: Web, endpoint: Endpoint, typed: str, *, mirror: bool = False) -> None:
        """Nothing is sent before the first question."""
        self.endpoint = endpoint
        self.mirror = mirror
        self.host = _API_HOSTS.get(endpoint.host, endpoint.host)
        self.insecure = endpoint.insecure or (web.access.unsecure and not mirror)
        self._web = web
        self._typed = typed
        self._lock = threading.Lock()
        self._client: Registry | None = None

    def __str__(self) -> str:
        """Return host and repository."""
        return f"{self.host}/{self.endpoint.repository}"

    def request(self, method: str, url: str, *, headers: dict[str, str], **_more: Any) -> requests.Response:
        """Send a request, as oras-py wants to; raise SourceError where somebody else than this place wants a login."""
        assert method == "GET"
        # Blobs are what their digests say, wherever they come from.
        blob = url.rpartition("/")[0].endswith("/blobs")
        response = self._web.send(url, headers, checked=not self.insecure, plain=blob)
        if response.status_code in _WANTS_LOGIN and not from_asked(response):
            with closing(response):
                error = refused(self._typed, response.url, response)
                error.hint = f"check the storage that {self.host} redirects to: it refuses what is asked of it"
                raise error
        return response

    def ask_for_token(
        self,
        realm: str,
        headers: dict[str, str],
        *,
        parameters: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one request to a token service; a redirect is an answer like any other. Raise SourceError."""
        own = f"{self._ready('/v2/').prefix}://{self.host}"
        try:
            # As little is checked as for the registry, where both are one server.
            checked = not self.insecure or origin_of(realm) != origin_of(own)
            return self._web.send_once(
                "POST" if form else "GET", realm, headers, parameters=parameters, form=form, checked=checked
            )
        except (requests.RequestException, ValueError) as error:
            raise self._web.failure(self._typed, own, error) from error

    @contextmanager
    def get(
        self, kind: str, target: str, accept: str, start: int = 0, end: int | None = None
    ) -> Iterator[requests.Response]:
        """Ask for a manifest or blob from a byte on, up to before another; returns the answer. Raise SourceError."""
        path = f"/v2/{self.endpoint.repository}/{kind}/{target}"
        client = self._ready(path)
        url = f"{client.prefix}://{self.host}{path}"

        def send(url: str, headers: dict[str, str]) -> requests.Response:
            known = {**headers, **client.auth.known_headers()}
            # oras-py wraps its requests in a retry that sleeps two minutes, even over a refused login.
            response: requests.Response = inspect.unwrap(Registry.do_request)(client, url, headers=known, stream=True)
            if response.status_code in _WANTS_LOGIN and (shown := client.auth.instead_of_token(response)):
                response.close()
                response = self.request("GET", url, headers={**headers, **shown})
            if response.status_code in _WANTS_LOGIN:
                with closing(response):
                    raise client.auth.refusal(response)
            return response

        with self._web.get(url, self._typed, {"Accept": accept}, start, end, send=send) as response:
            yield response

    def _ready(self, path: str) -> Registry:
        with self._lock:
            if self._client is None:
                self._client = self._make_client(plain=self.insecure and self._is_plain(path))
            return self._client

    def _make_client(self, *, plain: bool) -> Registry:
        access, endpoint = self._web.access, self.endpoint
        logins = access.host_config.logins
        # A password crosses the network unprotected only where that was said of this endpoint.
        login = logins.find(endpoint.host, endpoint.repository) if endpoint.login else None
        client = Registry(self.host, insecure=plain)
        client.session.close()
        client.session = self
        helper = logins.helper_for(endpoint.host, endpoint.repository)
        client.auth = RegistryLogin(login, self._typed, self.ask_for_token, self._read, helper)
        return client

    def _read(self, response: requests.Response) -> bytes:
        what = f"an answer from {redact(response.url)}"
        return b"".join(limited(self._web.body(response, self._typed), self._typed, what))

    def _is_plain(self, path: str) -> bool:
        """Find out whether it speaks plain HTTP, where either is allowed; raise SourceError where nobody answers."""
        url = f"https://{self.host}{path}"
        try:
            self._web.send_once("GET", url, {}, checked=False).close()
        except (requests.RequestException, ValueError) as error:
            refusal = self._web.failure(self._typed, url, error)
            if isinstance(refusal, TransientError):
                return self._answers_plainly(path)
            # Whatever TLS has against it, the request itself will say; all but that there is no TLS.
            return "does not speak TLS" in refusal.message
        return False

    def _answers_plainly(self, path: str) -> bool:
        url = f"http://{self.host}{path}"
        try:
            with closing(self._web.send_once("GET", url, {})) as response:
                # What servers for HTTPS answer to plain HTTP.
                return response.status_code != HTTPStatus.BAD_REQUEST
        except (requests.RequestException, ValueError) as error:
            raise self._web.failure(self._typed, url, error) from error
