"""Servers that misbehave towards guests: what each does, and how to see afterwards that it did."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.dead_servers import mute_server
from tests.lib.fault_files import Files
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.faults import BLOBS, MANIFESTS, MIB, End, Fault, Rule, Script
from tests.lib.registry import GUEST, Registry
from tests.lib.tls import Certificate
from tests.lib.token_gate import TokenGate

LOGIN: Final = ("node", "the pass:word")
CREDENTIAL: Final = "bootc-live.auth"
"""The name of the systemd credential that has logins (systemd.system-credentials(7))."""


@dataclass(frozen=True)
class Place:
    """A server as guests call it; `check` fails unless it has done to a guest what it is there for."""

    host: str
    check: Callable[[], None]


@contextmanager
def places(plain: Registry, server: Certificate, archive: Path) -> Iterator[dict[str, Place]]:
    """All of them, in front of `plain`; `server` is their certificate where they speak TLS."""
    with ExitStack() as stack:
        gate = TokenGate(uses=4, login=LOGIN)
        drops = Rule(BLOBS, Fault(after=MIB, end=End.RESET))
        dropping = stack.enter_context(fault_proxy(plain, drops, guard=gate))
        cuts = Rule(BLOBS, Fault(after=3 * MIB, end=End.CUT))
        cutting = stack.enter_context(fault_proxy(plain, cuts, tls=server))
        busy = Rule(MANIFESTS, Fault(status=503, headers={"Retry-After": "2"}))
        moved = Rule(BLOBS, Fault(redirect=f"http://{GUEST}:{plain.port}"), times=None)
        moving = stack.enter_context(fault_proxy(plain, busy, moved, tls=server))
        half = Rule("/", Fault(after=20 * MIB, end=End.RESET), spared=12)
        files = stack.enter_context(fault_server(Files({"/images/live.oci": archive}), Script([half])))
        silent = stack.enter_context(mute_server())

        def dropped() -> None:
            assert gate.expired >= 1
            assert _interrupted(dropping) >= 2

        def cut() -> None:
            assert _interrupted(cutting) >= 2

        def redirected() -> None:
            assert [seen.status for seen in moving.asked(MANIFESTS)].count(503) >= 1
            assert {seen.status for seen in moving.asked(BLOBS)} == {307}

        def broken() -> None:
            assert all(seen.range for seen in files.asked())
            # What came of layers before, over the registry, is not fetched again.
            assert files.sent() < archive.stat().st_size * 3 // 4

        yield {
            "dropping": Place(f"{GUEST}:{dropping.port}", dropped),
            "cutting": Place(f"{GUEST}:{cutting.port}", cut),
            "moving": Place(f"{GUEST}:{moving.port}", redirected),
            "files": Place(f"{GUEST}:{files.port}", broken),
            "silent": Place(f"{GUEST}:{silent}", lambda: None),
        }


def credential(place: Place) -> bytes:
    """Return the login for a place, as the systemd credential has it."""
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    return json.dumps({"auths": {place.host: {"auth": auth}}}).encode()


def _interrupted(server: FaultServer) -> int:
    return len([seen for seen in server.asked(BLOBS) if seen.range])
