"""One place that serves a repository: a registry or a mirror of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus

import requests
from oras.provider import Registry

from bootc_live.base.redact import redact
from bootc_live.config.routes import Endpoint
from bootc_live.source.http.body import limited
from bootc_live.source.http.web import Web
from bootc_live.source.registry.login import RegistryLogin
from bootc_live.source.retry import TransientError

# Docker Hub's API lives under another name than the one in references.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}

# For finding out who answers.
_LITTLE = {"Range": "bytes=0-0"}


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
    def get(
        self, kind: str, target: str, accept: str, start: int = 0, end: int | None = None
    ) -> Iterator[requests.Response]:
        """Ask for a manifest or blob from a byte on, up to before another; gives the answer. Raises SourceError."""
        path = f"/v2/{self.endpoint.repository}/{kind}/{target}"
        client = self._ready(path)
        url = f"{client.prefix}://{self.host}{path}"

        def send(url: str, headers: dict[str, str]) -> requests.Response:
            known = {**headers, **client.auth.known_headers()}
            # oras-py wraps its requests in a retry that sleeps two minutes, even over a refused login.
            response: requests.Response = inspect.unwrap(Registry.do_request)(client, url, headers=known, stream=True)
            if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
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
        what = f"an answer from {redact(response.url)}"
        return b"".join(limited(self._web.body(response, self._typed), self._typed, what))

    def _is_plain(self, path: str) -> bool:
        """Find out whether it speaks plain HTTP, where either is allowed; raises SourceError where nobody answers."""
        self._web.trust.leave_unchecked(self.host)
        url = f"https://{self.host}{path}"
        try:
            self._web.send(url, _LITTLE).close()
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
            with closing(self._web.send(url, _LITTLE)) as response:
                # What servers for HTTPS answer to plain HTTP.
                return response.status_code != HTTPStatus.BAD_REQUEST
        except (requests.RequestException, ValueError) as error:
            raise self._web.failure(self._typed, url, error) from error
