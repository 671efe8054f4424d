"""HTTP proxies: which requests go through one, who says so, and what is told of one that is dead or wants a login."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pytest
import requests

from bootc_live.config.host.host_config import HostConfig
from bootc_live.config.model import Proxies
from bootc_live.source.http.connections import RequestAdapter, SocketSet
from bootc_live.source.http.trust import Trust
from tests.lib.access import ARCHIVE, LAYERS, Stored, rehearsed, secret
from tests.lib.addressed import LOOPBACK
from tests.lib.dead_servers import closed_port
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_files import Files
from tests.lib.fault_server import fault_server
from tests.lib.host_files import AUTH, CERTIFICATES, RULES, host_files, rules
from tests.lib.htpasswd import STRANGER, USER, User, auth_json
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.relay import tls_front
from tests.lib.tls import make_authority, make_server
from tests.lib.token_server import Logins, token_service
from tests.lib.web_proxy import web_proxy

pytest_plugins = ("tests.lib.access_fixtures",)

# Nobody but the proxy knows them (RFC 6761).
NAME = "images.test"
NAMES = ("DNS:images.test", "IP:127.0.0.1")
SMALL = "/images/small.oci"

# A percent sign must be typed escaped, and what means something in URLs had better be.
ODD = User("odd", "p:ss w/rd+%@?", "")
FOREIGN = User("foreign", "schlüssel-€", "")


@dataclass(frozen=True)
class Servers:
    """One image behind four servers: what they are called, and the port that each name has on loopback."""

    image: Stored
    ports: Mapping[str, int]
    authority: Path

    @property
    def hosts(self) -> dict[str, int]:
        """The proxy's table."""
        return {f"{NAME}:{port}": port for port in self.ports.values()}

    def source(self, kind: str, host: str = NAME, archive: str = SMALL) -> str:
        """What to boot: `http` and `https` are archives, `registry` and `registry-tls` are registries."""
        name = f"{host}:{self.ports[kind]}"
        return f"docker://{name}/os" if kind.startswith("registry") else f"{kind}://{name}{archive}"


KINDS = ("http", "https", "registry", "registry-tls")


@pytest.fixture(scope="module")
def servers(image: Stored, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    where = tmp_path_factory.mktemp("servers")
    authority = make_authority(where / "keys")
    certificate = make_server(where / "keys", authority, names=NAMES)
    files = Files({ARCHIVE: image.archive, SMALL: small})
    with (
        fault_server(files) as http,
        fault_server(files, tls=certificate) as https,
        tls_front(image.registry.port, certificate) as front,
    ):
        ports = dict(zip(KINDS, (http.port, https.port, image.registry.port, front), strict=True))
        yield Servers(image, ports, authority.certificate)


@pytest.fixture(autouse=True)
def trusted(servers: Servers) -> Iterator[None]:
    with host_files({CERTIFICATES / "ca.crt": servers.authority}):
        yield


def kargs_for(kind: str) -> str:
    return "bootc.registry.unsecure" if kind == "registry" else ""


@pytest.mark.parametrize("kind", KINDS)
def test_everything_goes_through(kind: str, program: Program, servers: Servers, tmp_path: Path) -> None:
    with web_proxy(servers.hosts) as proxy:
        kargs = f"proxy=http://{proxy.host} {kargs_for(kind)} {PATIENT}"
        booted = boot(program, servers.source(kind, archive=ARCHIVE), tmp_path, kargs)
        booted.ended.good()
        assert len([line for line in booted.tree if line.path.startswith("more/")]) == LAYERS - 1
        encrypted = kind in {"https", "registry-tls"}
        assert {asked.method for asked in proxy.asked} == (
            {"CONNECT"} if encrypted else {"GET"} | ({"CONNECT"} if kind == "registry" else set())
        )
        # A proxy is a way, not where the bytes are from.
        assert list(booted.receipt["hosts"]) == [f"{NAME}:{servers.ports[kind]}"]


@dataclass(frozen=True)
class Row:
    """What is said about proxies on the command line and in the environment, and what goes through `{proxy}`."""

    name: str
    kargs: str
    env: Mapping[str, str] = field(default_factory=dict)
    through: tuple[str, ...] = ("http", "https")


NOWHERE = "http://127.0.0.1:1"
ROWS = (
    Row("proxy", "proxy={proxy}"),
    Row("http_proxy", "http_proxy=http://{proxy}", through=("http",)),
    Row("environment", "", {"HTTP_PROXY": "http://{proxy}"}, ("http",)),
    Row("command-line-before-environment", "proxy={proxy}", {"http_proxy": NOWHERE, "https_proxy": NOWHERE}),
    Row("none", "", through=()),
    Row("no_proxy-all", f"proxy={NOWHERE} no_proxy=*", through=()),
    Row("no_proxy-address", f"proxy={NOWHERE} no_proxy=example.org,{LOOPBACK}", through=()),
    Row("no_proxy-network", f"proxy={NOWHERE} no_proxy=127.0.0.0/8", through=()),
    Row("no_proxy-other", "proxy={proxy} no_proxy=example.org,10.0.0.0/8"),
    Row("no_proxy-environment", f"proxy={NOWHERE}", {"NO_PROXY": LOOPBACK}, ()),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_who_says_what_goes_through(row: Row, program: Program, servers: Servers, tmp_path: Path) -> None:
    """Two sources, of which the second has the image: one is asked for over HTTP, the other over HTTPS."""
    with web_proxy() as proxy:
        env = {name: text.format(proxy=proxy.host) for name, text in row.env.items()}
        kargs = f"{row.kargs.format(proxy=proxy.host)} bootc.live.fallback={servers.source('https', LOOPBACK)}"
        missing = servers.source("http", LOOPBACK, "/missing.oci")
        assert "404" in rehearsed(program, missing, tmp_path, kargs, env).good().stderr
        through = {"GET": "http", "CONNECT": "https"}
        assert {through[asked.method] for asked in proxy.asked} == set(row.through)


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [
        ("images.test", True),
        ("test", True),
        (".test", True),
        ("IMAGES.test", True),
        ("images.test:{port}", True),
        ("images.test:1", False),
        ("other.test", False),
        ("ages.test", False),
        ("images.test.example.org", False),
    ],
)
def test_names_to_reach_without(
    no_proxy: str, direct: bool, program: Program, servers: Servers, tmp_path: Path
) -> None:
    """By whole parts of names, as other programs do it. Direct means in vain here: only the proxy knows the name."""
    with web_proxy(servers.hosts) as proxy:
        kargs = f"proxy={proxy.host} no_proxy={no_proxy.format(port=servers.ports['http'])}"
        ended = rehearsed(program, servers.source("http"), tmp_path, kargs)
        assert bool(proxy.asked) != direct
    assert (ended.status != 0) == direct


def with_login(host: str, user: User) -> str:
    return f"proxy=http://{quote(user.name)}:{quote(user.password, safe='')}@{host}"


@pytest.mark.parametrize(
    ("kind", "user"),
    [("http", USER), ("http", ODD), ("https", FOREIGN), ("registry", ODD), ("registry-tls", USER)],
    ids=lambda value: value.name if isinstance(value, User) else value,
)
def test_login(kind: str, user: User, program: Program, servers: Servers, tmp_path: Path) -> None:
    with web_proxy(servers.hosts, user=user) as proxy:
        kargs = f"{with_login(proxy.host, user)} {kargs_for(kind)}"
        secret(rehearsed(program, servers.source(kind), tmp_path, kargs), *user.secrets).good()
        assert all(asked.login for asked in proxy.asked)
        assert not any("authorization" in headers.lower() for headers in proxy.headers)


@pytest.mark.parametrize(
    ("kind", "shown"), [("http", "none"), ("https", "wrong"), ("registry", "wrong"), ("registry-tls", "none")]
)
def test_wrong_login(kind: str, shown: str, program: Program, servers: Servers, tmp_path: Path) -> None:
    """Final at once, and told as such; the password is not."""
    with web_proxy(servers.hosts, user=STRANGER) as proxy:
        said = f"proxy={proxy.host}" if shown == "none" else with_login(proxy.host, USER)
        source = servers.source(kind)
        ended = rehearsed(program, source, tmp_path, f"{said} {kargs_for(kind)}")
        told = secret(ended, *USER.secrets).error(repr(source), "407")
        assert "proxy=http://USER:PASSWORD@HOST:PORT" in told.splitlines()[-1]
        assert "trying again" not in ended.stderr
        assert len(proxy.asked) <= 2
        assert proxy.passed() == []


@pytest.mark.parametrize("kind", ["http", "registry-tls"])
def test_dead_proxy(kind: str, program: Program, servers: Servers, tmp_path: Path) -> None:
    """The proxy is what has to be looked at, so the error says where it was looked for."""
    with closed_port() as port:
        source = servers.source(kind)
        kargs = f"{with_login(f'{LOOPBACK}:{port}', USER)} {kargs_for(kind)}"
        ended = secret(rehearsed(program, source, tmp_path, kargs), *USER.secrets)
    told = ended.error(repr(source), "through the proxy", f"{LOOPBACK}:{port}", "Connection refused")
    assert "proxy=" in told.splitlines()[-1]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("kind", ["http", "https"])
def test_proxy_over_tls(kind: str, known: bool, program: Program, servers: Servers, tmp_path: Path) -> None:
    """https:// before a proxy means that it has to prove who it is, whatever is asked of it: it gets a login."""
    authority = make_authority(tmp_path, "other")
    certificate = make_server(tmp_path, authority)
    trusted = {CERTIFICATES / "other.crt": authority.certificate}
    with web_proxy(servers.hosts, user=USER) as proxy, tls_front(proxy.port, certificate) as port:
        kargs = with_login(f"{LOOPBACK}:{port}", USER).replace("http:", "https:")
        with host_files(trusted if known else {}):
            ended = secret(rehearsed(program, servers.source(kind), tmp_path, kargs), *USER.secrets)
        if known:
            ended.good()
        else:
            ended.error(repr(servers.source(kind)), "certificate verify")
        assert bool(proxy.asked) == known


@pytest.mark.parametrize(("kind", "status"), [("http", 502), ("https", 403), ("registry-tls", 503)])
def test_proxy_that_refuses(kind: str, status: int, program: Program, servers: Servers, tmp_path: Path) -> None:
    with web_proxy(servers.hosts, refused=status) as proxy:
        source = servers.source(kind)
        ended = rehearsed(program, source, tmp_path, f"proxy={proxy.host}")
        ended.error(repr(source), str(status))
        # 403 is its last word, the others may pass.
        assert ("trying again" in ended.stderr) == (status != 403)


def test_proxy_that_is_none(program: Program, servers: Servers, tmp_path: Path) -> None:
    """A web server by mistake, which answers CONNECT with an error."""
    with fault_server(Files({})) as server:
        source = servers.source("https")
        rehearsed(program, source, tmp_path, f"proxy={server.host}").error(repr(source), "proxy")


def named(registry: int, service: int) -> dict[str, object]:
    """The registry with its token service, which is on another host."""
    return {"location": f"{NAME}:{registry}", "token-service": f"http://127.0.0.1:{service}/token"}


def test_registry_with_tokens(program: Program, servers: Servers, tmp_path: Path) -> None:
    """The token service is asked through the proxy, too, and the registry's login is not for the proxy."""
    signer = make_server(tmp_path / "signer", None, name="signer", key="rsa")
    with (
        token_service(signer, ("pull",), logins=Logins(USER.encoded)) as service,
        registry(tmp_path / "registry", auth=service.settings, same_as=servers.image.registry) as real,
        web_proxy({f"{NAME}:{real.port}": real.port}) as proxy,
        host_files({AUTH: auth_json({f"{NAME}:{real.port}": USER.entry})}),
        host_files({RULES: rules(named(real.port, service.port))}),
    ):
        kargs = f"proxy={proxy.host} bootc.registry.unsecure"
        ended = rehearsed(program, f"docker://{NAME}:{real.port}/os", tmp_path, kargs)
        secret(ended, *USER.secrets, *service.tokens).good()
        assert any(f":{service.port}/token" in target for target in proxy.passed("GET"))


def test_mirrors(program: Program, servers: Servers, tmp_path: Path) -> None:
    with web_proxy(servers.hosts) as proxy:
        mirror = f"{NAME}:{servers.ports['registry-tls']}"
        kargs = f"proxy={proxy.host} bootc.registry.mirror={mirror}"
        rehearsed(program, "docker://registry.invalid/os", tmp_path, kargs).good()
        assert set(proxy.passed("CONNECT")) == {mirror}


def test_proxies_are_for_boots(program: Program, servers: Servers) -> None:
    """Other verbs hear of them by the environment alone, or of none."""
    with web_proxy() as proxy:
        program.run("inspect", servers.source("https", LOOPBACK)).good()
        assert proxy.asked == []


@pytest.mark.parametrize("no_proxy", ["", "example.org"])
def test_environment_is_left_alone(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers come side by side: a thread that writes a variable, if only for a moment, makes others stumble over it."""
    proxies = Proxies(http="http://127.0.0.1:1", no_proxy=no_proxy)
    request = requests.Request("GET", f"http://{LOOPBACK}/").prepare()
    with monkeypatch.context() as patch:
        adapter = RequestAdapter(SocketSet(), Trust(HostConfig()), proxies, 5.0)
        patch.setattr(os, "environ", MappingProxyType(dict(os.environ)))
        with pytest.raises(requests.exceptions.ProxyError):
            adapter.send(request)
        adapter.close()
