"""A token service for a registry (Docker registry token authentication specification), and its settings.

Gives a token for what was asked, to everybody or for a login; tokens are JSON web tokens (RFC 7519) signed by RS256
with the signer's certificate in the header, as docker-registry wants them.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.lib.tls import Certificate

_ISSUER: Final = "test-issuer"
_SERVICE: Final = "test-registry"
# For so long docker-registry takes a token that has run out.
_LEEWAY: Final = 60


@dataclass(frozen=True)
class Logins:
    """Who gets tokens: who shows `basic` (base64 of NAME:PASSWORD), or the identity token (OAuth2 refresh token)."""

    basic: str | None = None
    identity: str | None = None

    def knows(self, authorization: str, refresh_token: str) -> bool:
        """Whether a request shows one of them."""
        if self.basic is None and self.identity is None:
            return True
        return authorization == f"Basic {self.basic}" or (refresh_token != "" and refresh_token == self.identity)


@dataclass(frozen=True)
class TokenService:
    """A running service; `actions` are what it allows, `scopes` those it gave tokens for, in order, `tokens` these.

    `refused` has a scope for every request with a wrong login or none, `shown` what each request showed as its login. A
    token lives for `seconds`, or a part of a second less. The registry names it as `host`.
    """

    port: int
    signer: Certificate
    actions: tuple[str, ...]
    scopes: list[str] = field(default_factory=list)
    logins: Logins = field(default_factory=Logins)
    seconds: int = 300
    tokens: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    host: str = "127.0.0.1"

    @property
    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """The `auth` section for a registry."""
        token = {
            "realm": f"http://{self.host}:{self.port}/token",
            "service": _SERVICE,
            "issuer": _ISSUER,
            "rootcertbundle": str(self.signer.certificate),
        }
        return {"token": token}

    def token(self, scope: str) -> str:
        """A signed token for a scope such as `repository:os:pull`."""
        kind, _, rest = scope.partition(":")
        name, _, wanted = rest.rpartition(":")
        now = int(time.time())
        allowed = [action for action in wanted.split(",") if action in self.actions]
        claims = {
            "iss": _ISSUER,
            "sub": "",
            "aud": _SERVICE,
            "exp": now + self.seconds - _LEEWAY,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [{"type": kind, "name": name, "actions": allowed}] if name else [],
        }
        lines = self.signer.certificate.read_text().split("-----")[2].split()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines)]}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.signer.key)]
        signature = subprocess.run(command, input=signed, stdout=subprocess.PIPE, check=True).stdout
        return (signed + b"." + _encoded(signature)).decode()

    def answer(self, form: Mapping[str, list[str]], authorization: str) -> tuple[int, dict[str, object]]:
        """The status and the JSON for one request."""
        asked = {name: values[0] for name, values in form.items()}
        scope = asked.get("scope", "")
        self.shown.append(authorization or asked.get("refresh_token", ""))
        if not self.logins.knows(authorization, asked.get("refresh_token", "")):
            self.refused.append(scope)
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
        self.scopes.append(scope)
        self.tokens.append(self.token(scope))
        # By POST it is OAuth2, where the field has another name.
        name = "access_token" if asked.get("grant_type") == "refresh_token" else "token"
        return 200, {name: self.tokens[-1], "expires_in": self.seconds}


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextmanager
def token_service(
    signer: Certificate,
    actions: tuple[str, ...],
    *,
    logins: Logins | None = None,
    seconds: int = 300,
    host: str = "127.0.0.1",
) -> Iterator[TokenService]:
    """A token service on a free loopback port, for everybody or for `logins`; `signer` must have an RSA key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._give(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._give(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

        def _give(self, form: str) -> None:
            status, answer = service.answer(parse_qs(form), self.headers.get("Authorization", ""))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        known, port = logins or Logins(), server.server_address[1]
        service = TokenService(port, signer, actions, logins=known, seconds=seconds, host=host)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
