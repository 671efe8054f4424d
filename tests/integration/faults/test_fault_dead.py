"""A server that is dead in one way or the other cannot hang a boot: it ends, and names the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.dead_servers import babbling_server, closed_port, dribbling_server, full_server, mute_server
from tests.lib.fault_boot import STALLED_FOR_EVER, boot
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side

DEAD = (closed_port, full_server, mute_server, dribbling_server, babbling_server)
# What comes before the port and after it.
REGISTRY = ("docker://127.0.0.1:", "/os")
SOURCES = {
    "plain": (REGISTRY, "bootc.registry.unsecure"),
    "tls": (REGISTRY, ""),
    "archive": (("http://127.0.0.1:", "/root.oci"), ""),
    "tls-archive": (("https://127.0.0.1:", "/root.oci"), ""),
}


@dataclass(frozen=True)
class Row:
    """A server, and a source that it does not serve."""

    name: str
    dead: Callable[[], AbstractContextManager[int]]
    source: tuple[str, str]
    kargs: str


# Before a word is said it makes no difference what would be talked about.
ROWS = [
    Row(f"{dead.__name__}-{name}", dead, *source)
    for dead in DEAD
    for name, source in SOURCES.items()
    if dead is mute_server or name in ("plain", "tls-archive")
]


@pytest.mark.parametrize("rows", batches(ROWS))
def test_dead_server(rows: tuple[Row, ...], program: Program, tmp_path: Path) -> None:
    def check(row: Row, where: Path) -> None:
        with row.dead() as port:
            source = str(port).join(row.source)
            booted = boot(program, source, where, f"{STALLED_FOR_EVER} {row.kargs}")
            booted.error(source, f"://127.0.0.1:{port}/")

    side_by_side(rows, check, tmp_path)
