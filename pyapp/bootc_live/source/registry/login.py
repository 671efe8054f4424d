"""Answer a registry's question who is asking: RFC 7235 challenges and the token protocol of registries.

Anonymous and named bearer tokens, identity tokens (OAuth2 refresh tokens), and basic authentication.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from typing import Any, Protocol

import requests
from oras.auth.token import TokenAuth

from bootc_live.base.errors import SourceError
from bootc_live.base.redact import redact
from bootc_live.config.host.logins import Login
from bootc_live.formats.json_text import Budget, read_json
from bootc_live.source.http.encoded import plain
from bootc_live.source.http.errors import refused
from bootc_live.source.registry.challenges import Challenge, parse_challenge, repository_in
from bootc_live.source.retry import TransientError

# What may stand in a header.
_VISIBLE = re.compile(r"[!-~]+\Z")
_CLIENT = "bootc-live"
_HINT = (
    "put a login for it into /etc/bootc-live/auth.json of the initramfs, or pass it as the credential bootc-live.auth"
)
_CHECK = "check the login for this registry in auth.json (/etc/bootc-live/auth.json, or the credential bootc-live.auth)"

Read = Callable[[requests.Response], bytes]


class Ask(Protocol):
    """Sends one request to a token service, and follows no redirect; see ``Place.ask_for_token``."""

    def __call__(
        self,
        realm: str,
        headers: dict[str, str],
        *,
        parameters: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
    ) -> requests.Response:
        """Return the answer; raise SourceError."""


class RegistryLogin(TokenAuth):  # type: ignore[misc]
    """The authentication of one place; several threads may ask at once."""

    def __init__(self, login: Login | None, typed: str, ask: Ask, read: Read, helper: str | None) -> None:
        """``read`` gives an answer's body; ``helper`` is a login program we do not have, for the message."""
        super().__init__()
        self.token: str | None = None
        self._login = login
        self._send = ask
        self._typed = typed
        self._read = read
        self._helper = helper
        self._lock = threading.Lock()
        self._uses_basic = False
        self._budget = Budget()

    def authenticate_request(
        self, original: requests.Response, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Return the headers to ask again with; raise SourceError where there is no way.

        Tokens come first, then the password, if there is one. A token that was shown and refused has run out, and is
        replaced; where that does not help, the password is shown instead.
        """
        challenges = parse_challenge(original.headers.get("Www-Authenticate", ""))
        original.close()
        shown = headers.get("Authorization")
        bearers = [challenge for challenge in challenges if challenge.scheme == "bearer"]
        basic = self._basic() if any(challenge.scheme == "basic" for challenge in challenges) else None
        if shown == basic:
            basic = None
        with self._lock:
            if bearers and not (refresh and basic):
                try:
                    if self.token is None or refresh or shown == f"Bearer {self.token}":
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
            refusal.message += f"; it takes nothing but {schemes}"
        raise refusal

    def known_headers(self) -> dict[str, str]:
        """Return what is known to be asked for, so that not every request has to be refused first."""
        basic = self._basic() if self._uses_basic else None
        return {"Authorization": basic} if basic else {}

    def instead_of_token(self, refused: requests.Response) -> dict[str, str]:
        """Return what to show where even a new token was refused: the password, if it is asked for, too."""
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
        pair = f"{self._login.username}:{self._login.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def _new_token(self, challenges: list[Challenge], asked: str) -> str:
        named = [challenge.parameters.get("realm", "") for challenge in challenges]
        usable = [(realm, part) for realm, part in zip(named, challenges, strict=True) if _is_web(realm)]
        if not usable:
            raise SourceError(
                f"{redact(asked)} (for {self._typed!r}) names {redact(named[0])!r} as its token service",
                hint="report it to its operator",
            )
        realm, challenge = usable[0]
        scheme, colon, rest = realm.partition(":")
        realm = f"{scheme.lower()}{colon}{rest}"
        if self._login is not None and asked.startswith("https:") and realm.startswith("http:"):
            raise SourceError(
                f"{redact(asked)} (for {self._typed!r}) wants the login sent unencrypted, to {redact(realm)}",
                hint="let the registry's operator serve tokens over HTTPS",
            )
        query = {key: challenge.parameters[key] for key in ("service", "scope") if challenge.parameters.get(key)}
        repository = repository_in(asked)
        if "scope" not in query and repository is not None:
            query["scope"] = f"repository:{repository}:pull"
        with closing(self._ask(realm, query)) as response:
            if response.status_code != HTTPStatus.OK:
                raise self.refusal(response)
            content = plain(self._read(response), f"the answer of {redact(realm)} (for {self._typed!r})")
        try:
            self._budget.spend(len(content))
            answer: Any = read_json(content)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or _VISIBLE.match(token) is None:
            raise SourceError(f"{redact(realm)} (for {self._typed!r}) gave no token", hint="check the token service")
        return token

    def _ask(self, realm: str, query: dict[str, str]) -> requests.Response:
        accept = {"Accept": "application/json"}
        if self._login is not None and self._login.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": _CLIENT,
                "refresh_token": self._login.identity_token,
            }
            return self._send(realm, accept, form=form)
        basic = self._basic()
        return self._send(realm, {**accept, **({"Authorization": basic} if basic else {})}, parameters=query)

    def refusal(self, response: requests.Response) -> SourceError:
        """Return the error for an answer that no login helps with, or that wants one we do not have."""
        error = refused(self._typed, response.url, response)
        if response.status_code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return error
        error.hint = _HINT if self._login is None else _CHECK
        if self._login is None:
            error.message += ": it wants a login, and there is none for it"
            if self._helper:
                error.message += f" ({self._helper}, which is not run here)"
        return error


def _is_web(realm: str) -> bool:
    return realm.lower().startswith(("https://", "http://"))
