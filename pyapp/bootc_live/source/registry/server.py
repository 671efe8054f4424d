"""Request manifests and blobs of one repository from one server: a registry or a mirror of it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import Any

import requests
from oras.provider import Registry

from bootc_live.config.host.routes import Endpoint
from bootc_live.source.http.body import read_limited
from bootc_live.source.http.client import HttpClient, from_requested_origin, origin_of
from bootc_live.source.http.errors import refused
from bootc_live.source.registry.login import RegistryLogin
from bootc_live.source.registry.token_services import gets_login
from bootc_live.source.retry import TransientError

# The host of Docker Hub's API differs from the one in references.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}

_NEEDS_LOGIN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class RegistryServer:
    """Sends the requests for one endpoint. oras-py answers authentication challenges, ``HttpClient`` sends.

    ``insecure`` applies to this endpoint only: not to others on the same host, nor to token services or storage on
    other hosts.
    """

    def __init__(self, http: HttpClient, endpoint: Endpoint, *, mirror: bool = False) -> None:
        """Send nothing before the first request."""
        self.endpoint = endpoint
        self.mirror = mirror
        self.host = _API_HOSTS.get(endpoint.host, endpoint.host)
        self.insecure = endpoint.insecure or (http.access.unsecure and not mirror)
        self._http = http
        self._lock = threading.Lock()
        self._client: Registry | None = None

    def __str__(self) -> str:
        """Return host and repository."""
        return f"{self.host}/{self.endpoint.repository}"

    def request(self, method: str, url: str, *, headers: dict[str, str], **_more: Any) -> requests.Response:
        """Send a request of oras-py; raise SourceError if another server requires a login."""
        assert method == "GET"
        # Blobs are verified by their digests, whatever their path.
        blob = url.rpartition("/")[0].endswith("/blobs")
        response = self._http.send(url, headers, checked=not self.insecure, plain=blob)
        if response.status_code in _NEEDS_LOGIN and not from_requested_origin(response):
            with closing(response):
                error = refused(self._http.source_text, response.url, response)
                error.hint = f"check the storage that {self.host} redirects to: it refuses the request"
                raise error
        return response

    def request_token(
        self,
        realm: str,
        headers: dict[str, str],
        *,
        parameters: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
    ) -> requests.Response:
        """Send one request to a token service, without following redirects; raise SourceError."""
        own = f"{self._ready('/v2/').prefix}://{self.host}"
        try:
            # The token service may be unverified only if it is the same server as the registry.
            checked = not self.insecure or origin_of(realm) != origin_of(own)
            return self._http.send_once(
                "POST" if form else "GET", realm, headers, parameters=parameters, form=form, checked=checked
            )
        except (requests.RequestException, ValueError) as error:
            raise self._http.failure(own, error) from error

    @contextmanager
    def get(
        self, kind: str, target: str, accept: str, start: int = 0, end: int | None = None
    ) -> Iterator[requests.Response]:
        """Request the bytes of a manifest or blob from ``start`` to before ``end``; raise SourceError."""
        path = f"/v2/{self.endpoint.repository}/{kind}/{target}"
        client = self._ready(path)
        url = f"{client.prefix}://{self.host}{path}"

        def send(url: str, headers: dict[str, str]) -> requests.Response:
            known = {**headers, **client.auth.known_headers()}
            # Without oras-py's own retries, which sleep two minutes even after a refused login.
            response: requests.Response = inspect.unwrap(Registry.do_request)(client, url, headers=known, stream=True)
            if response.status_code in _NEEDS_LOGIN and (login := client.auth.instead_of_token(response)):
                response.close()
                response = self.request("GET", url, headers={**headers, **login})
            if response.status_code in _NEEDS_LOGIN:
                with closing(response):
                    raise client.auth.refusal(response)
            return response

        with self._http.get(url, {"Accept": accept}, start, end, send=send) as response:
            yield response

    def _ready(self, path: str) -> Registry:
        with self._lock:
            if self._client is None:
                self._client = self._make_client(plain=self.insecure and self._is_plain(path))
            return self._client

    def _make_client(self, *, plain: bool) -> Registry:
        access, endpoint = self._http.access, self.endpoint
        logins = access.host_config.logins
        # A mirror without TLS from the kernel command line gets no password.
        login = logins.find(endpoint.host, endpoint.repository) if endpoint.login else None
        client = Registry(self.host, insecure=plain)
        client.session.close()
        client.session = self
        helper = logins.helper_for(endpoint.host, endpoint.repository)

        def trusts(realm: str) -> bool:
            return login is not None and gets_login(realm, self.host, endpoint, login, logins)

        client.auth = RegistryLogin(login, self._http.source_text, self.request_token, self._read, helper, trusts)
        return client

    def _read(self, response: requests.Response) -> bytes:
        return read_limited(self._http.body(response))

    def _is_plain(self, path: str) -> bool:
        """Return whether an insecure server speaks plain HTTP; raise SourceError if it cannot be reached."""
        url = f"https://{self.host}{path}"
        try:
            self._http.send_once("GET", url, {}, checked=False).close()
        except (requests.RequestException, ValueError) as error:
            failure = self._http.failure(url, error)
            if isinstance(failure, TransientError):
                return self._responds_to_plain(path)
            # The request itself will report other TLS failures.
            return "does not speak TLS" in failure.message
        return False

    def _responds_to_plain(self, path: str) -> bool:
        url = f"http://{self.host}{path}"
        try:
            with closing(self._http.send_once("GET", url, {})) as response:
                # HTTPS servers respond with this status to plain HTTP.
                return response.status_code != HTTPStatus.BAD_REQUEST
        except (requests.RequestException, ValueError) as error:
            raise self._http.failure(url, error) from error
