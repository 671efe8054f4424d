"""Authenticate to a registry: HTTP challenges and the token protocol of registries.

Supported are bearer tokens, anonymous or with a login, identity tokens (OAuth2 refresh tokens) and Basic.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from typing import Any

import requests
from oras.auth.token import TokenAuth

from bootc_live.base.advice import advise
from bootc_live.base.errors import SourceError
from bootc_live.base.redact import redact
from bootc_live.config.host.logins import Login
from bootc_live.formats.json_text import Budget, read_json
from bootc_live.source.http.body import decode_document
from bootc_live.source.http.client import normal_url
from bootc_live.source.http.errors import refused
from bootc_live.source.http.proxies import basic_header
from bootc_live.source.registry.challenges import Challenge, parse_challenge, repository_in
from bootc_live.source.retry import TransientError

# The characters allowed in a header.
_VISIBLE = re.compile(r"[!-~]+\Z")
_CLIENT = "bootc-live"

# See ``RegistryServer.request_token``.
RequestToken = Callable[..., requests.Response]
Read = Callable[[requests.Response], bytes]
# Whether a token service, by its URL as it will be requested, may get the login.
Trusts = Callable[[str], bool]


class RegistryLogin(TokenAuth):  # type: ignore[misc]
    """The authentication to one server; several threads can use it."""

    def __init__(
        self,
        login: Login | None,
        source_text: str,
        request: RequestToken,
        read: Read,
        helper: str | None,
        trusts: Trusts,
    ) -> None:
        """Read bodies of responses with ``read``; show the credential ``helper`` in messages."""
        super().__init__()
        self.token: str | None = None
        self._login = login
        self._request = request
        self._source_text = source_text
        self._read = read
        self._helper = helper
        self._trusts = trusts
        # The last token service that was asked without the login.
        self._withheld: str | None = None
        self._lock = threading.Lock()
        self._uses_basic = False
        self._budget = Budget()

    def authenticate_request(
        self, original: requests.Response, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Return the headers for the next try; raise SourceError if no scheme is left.

        Prefer a token to the password. A refused token has expired and is replaced; if that fails, use the password.
        """
        challenges = parse_challenge(original.headers.get("Www-Authenticate", ""))
        original.close()
        used = headers.get("Authorization")
        bearers = [challenge for challenge in challenges if challenge.scheme == "bearer"]
        basic = self._basic() if any(challenge.scheme == "basic" for challenge in challenges) else None
        if used == basic:
            basic = None
        with self._lock:
            if bearers and not (refresh and basic):
                try:
                    if self.token is None or refresh or used == f"Bearer {self.token}":
                        self.token = self._new_token(bearers, original.url)
                    return {**headers, "Authorization": f"Bearer {self.token}"}, True
                except SourceError as error:
                    if basic is None or isinstance(error, TransientError):
                        raise
            if basic is not None:
                self._uses_basic, self.token = True, None
                return {**headers, "Authorization": basic}, True
        refusal = self.refusal(original)
        if challenges and not any(challenge.scheme in ("basic", "bearer") for challenge in challenges):
            schemes = ", ".join(dict.fromkeys(redact(challenge.scheme) for challenge in challenges))
            refusal.message += f"; it supports only {schemes}"
        raise refusal

    def known_headers(self) -> dict[str, str]:
        """Return the headers that the server is known to require."""
        basic = self._basic() if self._uses_basic else None
        return {"Authorization": basic} if basic else {}

    def instead_of_token(self, refused: requests.Response) -> dict[str, str]:
        """Return the headers with the password if even a new token was refused, and Basic is supported."""
        schemes = {challenge.scheme for challenge in parse_challenge(refused.headers.get("Www-Authenticate", ""))}
        basic = self._basic() if schemes >= {"basic", "bearer"} else None
        if basic is None or refused.request.headers.get("Authorization") == basic:
            return {}
        with self._lock:
            self._uses_basic, self.token = True, None
        return {"Authorization": basic}

    def _basic(self) -> str | None:
        if self._login is None or self._login.username is None:
            return None
        return basic_header(self._login.username, self._login.password or "")

    def _new_token(self, challenges: list[Challenge], url: str) -> str:
        realms = [challenge.parameters.get("realm", "") for challenge in challenges]
        usable = [
            (realm, challenge)
            for realm, challenge in zip(realms, challenges, strict=True)
            if realm.lower().startswith(("https://", "http://"))
        ]
        if not usable:
            raise SourceError(
                f"{redact(url)} (for {self._source_text!r}) names an invalid token service: {redact(realms[0])!r}",
                hint="report it to the registry's operator",
            )
        realm, challenge = usable[0]
        try:
            # What is compared is what will be requested: readers of URLs differ.
            realm = normal_url(realm)
        except (requests.RequestException, ValueError) as error:
            raise SourceError(
                f"{redact(url)} (for {self._source_text!r}) names an invalid token service: {redact(realm)!r}",
                hint="report it to the registry's operator",
            ) from error
        trusted = self._trusts(realm)
        self._withheld = None if self._login is None or trusted else realm
        if trusted and url.startswith("https:") and realm.startswith("http:"):
            raise SourceError(
                f"{redact(url)} (for {self._source_text!r}) requests the login unencrypted, at {redact(realm)}",
                hint="the registry's operator must serve tokens over HTTPS",
            )
        query = {key: challenge.parameters[key] for key in ("service", "scope") if challenge.parameters.get(key)}
        repository = repository_in(url)
        if "scope" not in query and repository is not None:
            query["scope"] = f"repository:{repository}:pull"
        with closing(self._send(realm, query, trusted=trusted)) as response:
            if response.status_code != HTTPStatus.OK:
                raise self.refusal(response)
            content = decode_document(
                self._read(response), f"the response of {redact(realm)} (for {self._source_text!r})"
            )
        try:
            self._budget.spend(len(content))
            document: Any = read_json(content)
            token = document.get("token") or document.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or _VISIBLE.match(token) is None:
            raise SourceError(
                f"{redact(realm)} (for {self._source_text!r}) sent no token", hint="check the token service"
            )
        return token

    def _send(self, realm: str, query: dict[str, str], *, trusted: bool) -> requests.Response:
        accept = {"Accept": "application/json"}
        if not trusted:
            return self._request(realm, accept, parameters=query)
        if self._login is not None and self._login.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": self._login.identity_token,
            }
            return self._request(realm, accept, form=form)
        basic = self._basic()
        return self._request(realm, {**accept, **({"Authorization": basic} if basic else {})}, parameters=query)

    def refusal(self, response: requests.Response) -> SourceError:
        """Return the error for a response that requires another login."""
        error = refused(self._source_text, response.url, response)
        if response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return error
        error.hint = _log_in() if self._login is None else _check_login()
        if self._withheld is not None:
            service = redact(self._withheld)
            error.message += f": the login was not sent to {service}, which is not on the registry's own host"
            error.hint = (
                "if that token service is the registry's, name it: in /etc/bootc-live/registries.yaml"
                f"{advise(' of the initramfs', '')}, give the registry the line 'token-service: {service}'"
            )
        if self._login is None:
            error.message += ": it requires a login, and none is configured"
            if self._helper:
                error.message += f" ({self._helper}, which bootc-live does not run)"
        return error


def _log_in() -> str:
    return advise(
        "put a login into /etc/bootc-live/auth.json of the initramfs, or pass the credential bootc-live.auth",
        "log in with: podman login REGISTRY",
    )


def _check_login() -> str:
    return "check the login for this registry in " + advise(
        "auth.json (/etc/bootc-live/auth.json, or the credential bootc-live.auth)",
        "the files of podman, docker, or /etc/bootc-live/auth.json",
    )
