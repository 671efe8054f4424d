"""A token service for a registry (Docker registry token authentication specification), and its settings.

Gives everybody a token for what was asked; tokens are JSON web tokens (RFC 7519) signed by RS256 with the signer's
certificate in the header, as docker-registry wants them.
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


@dataclass(frozen=True)
class TokenService:
    """A running service; `scopes` are those it gave tokens for, in order; `actions` are what it allows."""

    port: int
    signer: Certificate
    actions: tuple[str, ...]
    scopes: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Mapping[str, Mapping[str, str]]:
        """The `auth` section for a registry."""
        token = {
            "realm": f"http://127.0.0.1:{self.port}/token",
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
            "exp": now + 300,
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


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@contextmanager
def token_service(signer: Certificate, actions: tuple[str, ...]) -> Iterator[TokenService]:
    """A token service on a free loopback port, without logins; `signer` must have an RSA key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            scope = query.get("scope", [""])[0]
            service.scopes.append(scope)
            body = json.dumps({"token": service.token(scope)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = TokenService(server.server_address[1], signer, actions)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
