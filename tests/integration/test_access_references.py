"""References without a registry, as people know them: a rule sends them to a registry that can be reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.access import Stored, found, rehearsed
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.host_files import RULES, host_files, rules
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.tls import make_authority, make_server

pytest_plugins = ("tests.lib.access_fixtures",)


@pytest.fixture
def served(image: Stored) -> Iterator[FaultServer]:
    """The registry, behind somebody who takes notes."""
    with fault_proxy(image.registry) as running:
        yield running


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        ("os", "library/os/manifests/latest"),
        ("os:no-such-tag@{digest}", "library/os/manifests/{digest}"),
        ("docker.io/os", "library/os/manifests/latest"),
        ("docker.io/team/os@{digest}", "team/os/manifests/{digest}"),
    ],
)
def test_default_registry(reference: str, asked: str, program: Program, image: Stored, served: FaultServer) -> None:
    source = f"docker://{reference.format(digest=image.digest)}"
    with host_files({RULES: rules({"prefix": "docker.io", "location": served.host, "insecure": True})}):
        ended = program.run("inspect", "--json", source)
    found(ended, image)
    assert json.loads(ended.stdout)["source"] == source
    assert served.asked("manifests")[0].path == f"/v2/{asked.format(digest=image.digest)}"


def test_default_registry_by_a_mirror(program: Program, image: Stored, served: FaultServer) -> None:
    """The path of a mirror comes before the name, as pull-through caches have it."""
    mirrors = [{"location": f"{served.host}/team", "insecure": True, "pull-from-mirror": "all"}]
    with host_files({RULES: rules({"prefix": "docker.io/library", "mirrors": mirrors})}):
        found(program.run("inspect", "--json", "docker://os"), image)
    assert served.asked("manifests")[0].path == "/v2/team/os/manifests/latest"


@pytest.mark.parametrize("host", ["registry.example", "localhost", "a:1"])
def test_what_counts_as_a_registry(host: str, program: Program, image: Stored, served: FaultServer) -> None:
    """A first part with a dot or a colon, or localhost: its name says where, so docker.io has nothing to do with it."""
    entries = [{"prefix": "docker.io", "blocked": True}, {"prefix": host, "location": served.host, "insecure": True}]
    with host_files({RULES: rules(*entries)}):
        found(program.run("inspect", "--json", f"docker://{host}/os"), image)
        program.run("inspect", "docker://os").error("docker://os", "'docker.io'", "blocked")


@pytest.mark.parametrize(("host", "end"), [("127.0.0.1", ""), ("localhost", ":latest@{digest}")])
def test_ports(end: str, host: str, program: Program, image: Stored, tmp_path: Path) -> None:
    """Over TLS, where the name is checked, too."""
    authority = make_authority(tmp_path)
    certificate = make_server(tmp_path, authority)
    with registry(tmp_path / "registry", tls=certificate, same_as=image.registry) as real:
        source = real.source(f"team/deep/os{end.format(digest=image.digest)}", host=host)
        found(program.run("inspect", "--json", source, env={"SSL_CERT_FILE": str(authority.certificate)}), image)


@pytest.mark.parametrize("unsecure", [False, True], ids=["https", "unsecure"])
@pytest.mark.parametrize("host", [f"{64 * 'a'}.example", "registry.example:70000"])
def test_hosts_that_cannot_be(host: str, unsecure: bool, program: Program, tmp_path: Path) -> None:
    source = f"docker://{host}/os"
    kargs = "bootc.registry.unsecure" if unsecure else ""
    rehearsed(program, source, tmp_path, kargs).error(repr(source))
