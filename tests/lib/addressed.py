"""How a server on loopback is named."""

from __future__ import annotations

from typing import Final

from tests.lib.tls import Certificate

LOOPBACK: Final = "127.0.0.1"


class Addressed:
    """What has a port on loopback, and speaks TLS if `tls` is set."""

    port: int
    tls: Certificate | bool | None

    @property
    def host(self) -> str:
        """Host and port as they stand in a reference."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def source(self, name: str, *, host: str = LOOPBACK) -> str:
        """`docker://HOST:PORT/NAME`, where `name` includes tag or digest; `host` is what the client calls it."""
        return f"docker://{host}:{self.port}/{name}"
