"""One place that serves a repository: a registry or a mirror of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus

import requests
from oras.provider import Registry

from bootc_live.config.routes import Endpoint
from bootc_live.source.http.body import limited
from bootc_live.source.http.web import Web
from bootc_live.source.registry.login import RegistryLogin

# Docker Hub's API lives under another name than the one in references.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


class Place:
    """Asks one endpoint. oras-py makes the requests and asks again after a challenge; the session is ours."""

    def __init__(self, web: Web, endpoint: Endpoint, typed: str) -> None:
        """Nothing is sent before the first question."""
        self.endpoint = endpoint
        self.host = _API_HOSTS.get(endpoint.host, endpoint.host)
        self.insecure = endpoint.insecure or web.access.unsecure
        self._web = web
        self._typed = typed
        self._lock = threading.Lock()
        self._client: Registry | None = None

    def __str__(self) -> str:
        """Give host and repository."""
        return f"{self.host}/{self.endpoint.repository}"

    @contextmanager
    def get(self, kind: str, target: str, accept: str, start: int = 0) -> Iterator[requests.Response]:
        """Ask for a manifest or blob from a byte on; gives the answer. Raises SourceError."""
        client = self._ready()
        url = f"{client.prefix}://{self.host}/v2/{self.endpoint.repository}/{kind}/{target}"

        def send(url: str, headers: dict[str, str]) -> requests.Response:
            known = {**headers, **client.auth.known_headers()}
            # oras-py wraps its requests in a retry that sleeps two minutes, even over a refused login.
            response: requests.Response = inspect.unwrap(Registry.do_request)(client, url, headers=known, stream=True)
            if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                with closing(response):
                    raise client.auth.refusal(response)
            return response

        with self._web.get(url, self._typed, {"Accept": accept}, start, send=send) as response:
            yield response

    def _ready(self) -> Registry:
        with self._lock:
            if self._client is None:
                plain = self.insecure and not self._speaks_https()
                self._client = self._make_client(plain=plain)
            return self._client

    def _make_client(self, *, plain: bool) -> Registry:
        access, endpoint = self._web.access, self.endpoint
        logins = access.surroundings.logins
        client = Registry(self.host, insecure=plain)
        client.session.close()
        client.session = self._web.session
        client.auth = RegistryLogin(
            logins.find(endpoint.host, endpoint.repository), self._typed, self._read, logins.helper_for(endpoint.host)
        )
        client.auth.session = self._web.session
        return client

    def _read(self, response: requests.Response) -> bytes:
        return b"".join(limited(self._web.body(response, self._typed), self._typed, "an answer"))

    def _speaks_https(self) -> bool:
        self._web.trust.leave_unchecked(self.host)
        try:
            self._web.send(f"https://{self.host}/v2/", {}).close()
        except requests.RequestException:
            # No TLS there, or nothing at all: the plain attempt gives the better message.
            return False
        return True
