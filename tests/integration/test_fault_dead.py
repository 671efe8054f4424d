"""A server that is dead in one way or the other cannot hang a boot: it ends, and names the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.lib.dead_servers import closed_port, full_server, mute_server
from tests.lib.fault_boot import IMPATIENT, boot
from tests.lib.program import Program

Dead = Callable[[], AbstractContextManager[int]]
DEAD: tuple[Dead, ...] = (closed_port, full_server, mute_server)


@pytest.mark.parametrize("unsecure", ["bootc.registry.unsecure", ""], ids=["unsecure", "https"])
@pytest.mark.parametrize("dead", DEAD, ids=lambda dead: dead.__name__)
def test_dead_registry(dead: Dead, unsecure: str, program: Program, tmp_path: Path) -> None:
    with dead() as port:
        source = f"docker://127.0.0.1:{port}/os"
        booted = boot(program, source, tmp_path, f"{IMPATIENT} {unsecure}")
        booted.error(repr(source), f"://127.0.0.1:{port}/v2/")


@pytest.mark.parametrize("dead", DEAD, ids=lambda dead: dead.__name__)
def test_dead_web_server(dead: Dead, program: Program, tmp_path: Path) -> None:
    with dead() as port:
        url = f"http://127.0.0.1:{port}/root.oci"
        boot(program, url, tmp_path, IMPATIENT).error(url)
