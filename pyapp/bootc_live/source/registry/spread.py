"""In which order mirrors are asked: another one on each host, so that many hosts do not all ask the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from bootc_live.config.host.routes import Endpoint


def spread(endpoints: Iterable[Endpoint], identity: str) -> list[Endpoint]:
    """Return the endpoints in the order for the host with this identity, always the same for the same host.

    Rendezvous hashing: where a mirror is down, its hosts go on to all the others in equal parts, and a mirror more or
    less moves only the hosts that have to move.
    """
    return sorted(endpoints, key=lambda endpoint: _weight(endpoint, identity))


def _weight(endpoint: Endpoint, identity: str) -> bytes:
    return hashlib.sha256(f"{identity}\0{endpoint.host}\0{endpoint.repository}".encode()).digest()
