"""Answer a registry's question who is asking: RFC 7235 challenges and the token protocol of registries.

Anonymous and named bearer tokens, identity tokens (OAuth2 refresh tokens), and basic authentication.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from typing import Any

import requests
from oras.auth.token import TokenAuth

from bootc_live.base.errors import SourceError
from bootc_live.base.redact import redact
from bootc_live.config.logins import Login
from bootc_live.source.http.errors import refused, unreachable

_SCHEME = re.compile(r"\s*(bearer|basic)\b(.*)", re.IGNORECASE | re.DOTALL)
_PARAMETER = re.compile(r'([a-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.IGNORECASE)
_CLIENT = "bootc-live"
_HINT = (
    "put a login for it into /etc/bootc-live/auth.json of the initramfs, or pass it as the credential bootc-live.auth"
)
_CHECK = "check the login for this registry in auth.json (/etc/bootc-live/auth.json, or the credential bootc-live.auth)"

Read = Callable[[requests.Response], bytes]


class RegistryLogin(TokenAuth):  # type: ignore[misc]
    """The authentication of one place; several threads may ask at once."""

    def __init__(self, login: Login | None, typed: str, read: Read, helper: str | None) -> None:
        """``read`` gives an answer's body; ``helper`` is a login program we do not have, for the message."""
        super().__init__()
        self.token: str | None = None
        self.session: requests.Session
        self._login = login
        self._typed = typed
        self._read = read
        self._helper = helper
        self._lock = threading.Lock()
        self._uses_basic = False

    def authenticate_request(
        self, original: requests.Response, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Give the headers to ask again with; raises SourceError where there is no way.

        A token that was shown and refused has run out, and is replaced.
        """
        kind, parameters = parse_challenge(original.headers.get("Www-Authenticate", ""))
        original.close()
        shown = headers.get("Authorization")
        with self._lock:
            if kind == "bearer":
                if self.token is None or refresh or shown == f"Bearer {self.token}":
                    self.token = self._new_token(parameters, original.url)
                return {**headers, "Authorization": f"Bearer {self.token}"}, True
            basic = self._basic()
            if kind == "basic" and basic is not None and shown != basic:
                self._uses_basic = True
                return {**headers, "Authorization": basic}, True
        raise self.refusal(original)

    def known_headers(self) -> dict[str, str]:
        """Give what is known to be asked for, so that not every request has to be refused first."""
        basic = self._basic() if self._uses_basic else None
        return {"Authorization": basic} if basic else {}

    def _basic(self) -> str | None:
        if self._login is None or self._login.username is None:
            return None
        pair = f"{self._login.username}:{self._login.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def _new_token(self, parameters: dict[str, str], asked: str) -> str:
        realm = parameters.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise SourceError(
                f"{redact(asked)} (for {self._typed!r}) names {redact(realm)!r} as its token service",
                hint="report it to its operator",
            )
        if self._login is not None and asked.startswith("https:") and realm.startswith("http:"):
            raise SourceError(
                f"{redact(asked)} (for {self._typed!r}) wants the login sent unencrypted, to {redact(realm)}",
                hint="let the registry's operator serve tokens over HTTPS",
            )
        query: dict[str, str] = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        with closing(self._ask(realm, query)) as response:
            if response.status_code != HTTPStatus.OK:
                raise self.refusal(response)
            content = self._read(response)
        try:
            answer: Any = json.loads(content)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str):
            raise SourceError(f"{redact(realm)} (for {self._typed!r}) gave no token", hint="check the token service")
        return token

    def _ask(self, realm: str, query: dict[str, str]) -> requests.Response:
        try:
            if self._login is not None and self._login.identity_token:
                form = {
                    **query,
                    "grant_type": "refresh_token",
                    "client_id": _CLIENT,
                    "refresh_token": self._login.identity_token,
                }
                return self.session.post(realm, data=form, stream=True)
            basic = self._basic()
            headers = {"Accept": "application/json", **({"Authorization": basic} if basic else {})}
            return self.session.get(realm, params=query, headers=headers, stream=True)
        except requests.RequestException as error:
            raise unreachable(self._typed, realm, error) from error

    def refusal(self, response: requests.Response) -> SourceError:
        """Make the error for an answer that no login helps with, or that wants one we do not have."""
        error = refused(self._typed, response.url, response)
        if response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return error
        error.hint = _HINT if self._login is None else _CHECK
        if self._login is None:
            error.message += ": it wants a login, and there is none for it"
            if self._helper:
                error.message += f" (auth.json names the helper {self._helper!r}, which cannot be used here)"
        return error


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Give scheme and parameters of a WWW-Authenticate header (RFC 9110, 11.6.1).

    The scheme is in lower case, and empty where it is none we know.
    """
    match = _SCHEME.match(header)
    if match is None:
        return "", {}
    found = _PARAMETER.finditer(match[2])
    return match[1].lower(), {
        part[1].lower(): re.sub(r"\\(.)", r"\1", part[2]) if part[2] is not None else part[3] for part in found
    }
