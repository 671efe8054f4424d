"""Archives behind a login that their URL holds: it opens them, goes nowhere else, and nobody gets to see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.lib.access import ARCHIVE, Stored, secret
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_files import Files
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.htpasswd import ODD, USER, User
from tests.lib.program import Program
from tests.lib.token_gate import TokenGate

pytest_plugins = ("tests.lib.access_fixtures",)


def url(server: FaultServer, user: User) -> str:
    scheme, _, host = server.url.partition("://")
    return f"{scheme}://{quote(user.name)}:{quote(user.password, safe='')}@{host}{ARCHIVE}"


@pytest.fixture(params=[USER, ODD], ids=["user", "odd"])
def user(request: pytest.FixtureRequest) -> User:
    chosen: User = request.param
    return chosen


@pytest.fixture
def server(image: Stored, user: User) -> Iterator[FaultServer]:
    gate = TokenGate(login=(user.name, user.password), basic=True)
    with fault_server(Files({ARCHIVE: image.archive}), guard=gate) as running:
        yield running


def test_login(program: Program, image: Stored, server: FaultServer, user: User, tmp_path: Path) -> None:
    booted = boot(program, url(server, user), tmp_path, PATIENT).without(*user.secrets)
    booted.ended.good()
    assert booted.receipt["image"]["manifest_digest"] == image.digest
    assert {seen.authorization for seen in server.asked() if seen.status == 206} == {f"Basic {user.encoded}"}


def test_reference_with_a_login(program: Program, image: Stored) -> None:
    """Not how logins for registries are given: an error that does not repeat it."""
    source = f"docker://{USER.name}:{USER.password}@{image.registry.host}/os"
    told = secret(program.run("inspect", source), *USER.secrets).error(image.registry.host)
    assert "***" in told
