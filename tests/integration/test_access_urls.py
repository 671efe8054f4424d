"""Archives behind a login that their URL holds: it opens them, goes nowhere else, and nobody gets to see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.lib.access import ARCHIVE, Stored, found, rehearsed, secret
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_files import Files
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.faults import EVERYTHING, Fault, Rule, Script
from tests.lib.host_files import CERTIFICATES, host_files
from tests.lib.htpasswd import ODD, STRANGER, USER, User
from tests.lib.program import Program
from tests.lib.tls import make_authority, make_server
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


def test_wrong_login(program: Program, server: FaultServer, tmp_path: Path) -> None:
    """The hint is for web servers: auth.json is not asked about those."""
    ended = secret(rehearsed(program, url(server, STRANGER), tmp_path), *STRANGER.secrets)
    told = ended.error(f"{server.host}{ARCHIVE}", "401")
    assert "auth.json" not in told
    assert len(server.asked()) == 1


def test_no_login(program: Program, server: FaultServer, tmp_path: Path) -> None:
    told = rehearsed(program, f"{server.url}{ARCHIVE}", tmp_path).error(f"{server.url}{ARCHIVE}", "401")
    assert "auth.json" not in told


def test_redirect_to_another_host(program: Program, image: Stored, tmp_path: Path) -> None:
    with fault_server(Files({ARCHIVE: image.archive})) as storage:
        moved = Script([Rule(EVERYTHING, Fault(redirect=storage.url), times=None)])
        with fault_server(Files({ARCHIVE: image.archive}), moved) as first:
            secret(rehearsed(program, url(first, USER), tmp_path), *USER.secrets).good()
            assert {seen.authorization for seen in first.asked()} == {f"Basic {USER.encoded}"}
        assert {seen.authorization for seen in storage.asked()} == {""}


def test_login_over_https(program: Program, image: Stored, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    gate = TokenGate(login=(USER.name, USER.password), basic=True)
    files = Files({ARCHIVE: image.archive})
    with (
        fault_server(files, guard=gate, tls=make_server(tmp_path, authority)) as server,
        host_files({CERTIFICATES / "ca.crt": authority.certificate}),
    ):
        found(secret(program.run("inspect", "--json", url(server, USER)), *USER.secrets), image)


def test_reference_with_a_login(program: Program, image: Stored) -> None:
    """Not how logins for registries are given: an error that does not repeat it."""
    source = f"docker://{USER.name}:{USER.password}@{image.registry.host}/os"
    told = secret(program.run("inspect", source), *USER.secrets).error(image.registry.host)
    assert "***" in told
