"""Names, passwords and identity tokens open registries that want them, and are seen by nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.access import LAYERS, Stored, found, secret
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_proxy import fault_proxy
from tests.lib.faults import BLOBS, Fault, Rule
from tests.lib.host_files import AUTH, RULES, credential, host_files
from tests.lib.htpasswd import ODD, STRANGER, USER, auth_json, htpasswd
from tests.lib.program import Program
from tests.lib.registry import Registry, registry
from tests.lib.tls import Certificate, make_authority, make_server
from tests.lib.token_server import Logins, TokenService, token_service

pytest_plugins = ("tests.lib.access_fixtures",)

IDENTITY = "refresh-me-4711"
PLACES = ("file", "credential", "variable")
KINDS = ("basic", "bearer", "identity")
Entry = Mapping[str, object]


@dataclass(frozen=True)
class Guarded:
    """A registry that wants a login, the entry of auth.json that it is, and what must not be shown."""

    registry: Registry
    entry: Entry
    service: TokenService | None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Password, identity token and all tokens so far."""
        return (
            *USER.secrets,
            *ODD.secrets,
            *STRANGER.secrets,
            IDENTITY,
            *(self.service.tokens if self.service else ()),
        )


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_server(tmp_path_factory.mktemp("signer"), None, name="signer", key="rsa")


@pytest.fixture(scope="module")
def guarded(
    image: Stored, signer: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Guarded]]:
    """A registry for every kind of login."""
    where = tmp_path_factory.mktemp("guarded")
    logins = Logins(USER.encoded, IDENTITY)
    with (
        registry(where / "basic", auth=htpasswd(where / "users", USER, ODD), same_as=image.registry) as basic,
        token_service(signer, ("pull",), logins=logins) as service,
        registry(where / "bearer", auth=service.settings, same_as=image.registry) as bearer,
    ):
        yield {
            "basic": Guarded(basic, USER.entry, None),
            "bearer": Guarded(bearer, USER.entry, service),
            "identity": Guarded(bearer, {"identitytoken": IDENTITY}, service),
        }


@contextmanager
def logins(text: str, place: str, where: Path) -> Iterator[Mapping[str, str]]:
    """An auth.json in one of its places; gives the environment that names it."""
    path = {"file": AUTH, "credential": credential("auth"), "variable": where / "auth.json"}[place]
    with host_files({path: text}):
        yield {"REGISTRY_AUTH_FILE": str(path)} if place == "variable" else {}


def one(served: Registry, entry: Entry, namespace: str = "") -> str:
    """An auth.json with one entry."""
    return auth_json({f"{served.host}{namespace}": entry})


@pytest.mark.parametrize(("kind", "place"), list(zip(KINDS, PLACES, strict=True)))
def test_login(
    kind: str, place: str, program: Program, image: Stored, guarded: Mapping[str, Guarded], tmp_path: Path
) -> None:
    there = guarded[kind]
    source = there.registry.source("os")
    with logins(one(there.registry, there.entry), place, tmp_path) as env:
        found(secret(program.run("inspect", "--json", "--unsecure", source, env=env), *there.secrets), image)
    secret(program.run("inspect", "--unsecure", source), *there.secrets).error(repr(source), "401")


@pytest.mark.parametrize("kind", KINDS)
def test_boot(kind: str, program: Program, image: Stored, guarded: Mapping[str, Guarded], tmp_path: Path) -> None:
    """Many layers side by side, by the program as units run it."""
    there = guarded[kind]
    asked = len(there.service.scopes) if there.service else 0
    with logins(one(there.registry, there.entry), "credential", tmp_path):
        booted = boot(program, there.registry.source("os"), tmp_path, f"bootc.registry.unsecure {PATIENT}")
    booted.without(*there.secrets).ended.good()
    assert booted.receipt["image"]["manifest_digest"] == image.digest
    assert {line.path for line in booted.tree} >= {f"more/{number}" for number in range(1, LAYERS)}
    if there.service:
        assert 1 <= len(there.service.scopes) - asked <= 2, "one token is for all"


def test_namespaces(program: Program, image: Stored, guarded: Mapping[str, Guarded], tmp_path: Path) -> None:
    """The key with the most of the name in it counts, also where it is the wrong one."""
    there = guarded["basic"]
    host = there.registry.host
    keys = {host: STRANGER.entry, f"{host}/team": there.entry, f"{host}/team/deep": STRANGER.entry}
    with logins(auth_json(keys), "file", tmp_path):
        for name, good in (("os", False), ("team/os", True), ("team/deep/os", False), ("library/os", False)):
            ended = program.run("inspect", "--json", "--unsecure", there.registry.source(name))
            secret(ended, *there.secrets)
            if good:
                found(ended, image)
            else:
                ended.error("401")


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_login(kind: str, program: Program, guarded: Mapping[str, Guarded], tmp_path: Path) -> None:
    there = guarded[kind]
    wrong: Entry = {"identitytoken": f"{IDENTITY}-no-more"} if kind == "identity" else STRANGER.entry
    refused = len(there.service.refused) if there.service else 0
    source = there.registry.source("os")
    with logins(one(there.registry, wrong), "file", tmp_path):
        told = secret(program.run("inspect", "--unsecure", source), *there.secrets).error(repr(source), "401")
    assert "/etc/bootc-live/auth.json" in told
    assert "none for it" not in told
    if there.service:
        assert len(there.service.refused) - refused == 1, "many services lock out who insists"


def test_missing_login(program: Program, guarded: Mapping[str, Guarded], tmp_path: Path) -> None:
    there = guarded["bearer"]
    source = there.registry.source("os")
    for text in (auth_json({}), auth_json({"other.example": USER.entry}), one(there.registry, {})):
        with logins(text, "file", tmp_path):
            ended = secret(program.run("inspect", "--unsecure", source), *there.secrets)
        told = ended.error(repr(source), "401", "none is configured")
        assert "podman login" in told


@pytest.mark.parametrize("place", PLACES)
def test_damaged_file(place: str, program: Program, image: Stored, tmp_path: Path) -> None:
    """Also for a registry that wants no login: it would be found out much later otherwise."""
    with logins(one(image.registry, USER.entry)[:-3], place, tmp_path) as env:
        ended = program.run("inspect", "--unsecure", image.registry.source("os"), env=env)
    path = {"file": AUTH, "credential": credential("auth"), "variable": tmp_path / "auth.json"}[place]
    assert "podman login" in secret(ended, *USER.secrets).error(path)


def test_a_token_service_on_another_host(program: Program, image: Stored, signer: Certificate, tmp_path: Path) -> None:
    """It gets the login only if the registries file names it; names that differ are other hosts."""
    with (
        token_service(signer, ("pull",), logins=Logins(USER.encoded), host="localhost") as service,
        registry(tmp_path / "registry", auth=service.settings, same_as=image.registry) as real,
    ):
        realm, source = f"http://localhost:{service.port}/token", real.source("os")
        with logins(one(real, USER.entry), "file", tmp_path):
            told = secret(program.run("inspect", "--unsecure", source), *USER.secrets).error(repr(source), "401")
            assert f"the login was not sent to {realm}, which is not on the registry's own host" in told
            assert f"'token-service: {realm}'" in told
            assert set(service.shown) == {""}
            rules = f"registries: [{{location: '{real.host}', token-service: '{realm}'}}]"
            with host_files({RULES: rules}):
                found(program.run("inspect", "--json", "--unsecure", source), image)
            assert service.shown[-1] == f"Basic {USER.encoded}"


def test_token_that_runs_out(program: Program, image: Stored, signer: Certificate, tmp_path: Path) -> None:
    """A real registry refuses a token six seconds old, in the middle of the layers: it is renewed."""
    with (
        token_service(signer, ("pull",), logins=Logins(USER.encoded), seconds=6) as service,
        registry(tmp_path / "registry", auth=service.settings, same_as=image.registry) as real,
        fault_proxy(real, Rule(BLOBS, Fault(delay=6.1), each=False, spared=6)) as slow,
        logins(auth_json({slow.host: USER.entry}), "file", tmp_path),
    ):
        booted = boot(program, slow.source("os"), tmp_path, f"bootc.registry.unsecure {PATIENT}")
        booted.without(*USER.secrets, *service.tokens).ended.good()
        assert sum(seen.status == 200 for seen in slow.asked(BLOBS)) >= LAYERS + 1
        assert any(seen.status == 401 for seen in slow.asked(BLOBS))
        assert len(service.tokens) >= 2


def test_a_token_for_everybody(program: Program, image: Stored, signer: Certificate, tmp_path: Path) -> None:
    """As public registries give it; one for the manifest serves the blobs, too."""
    with (
        token_service(signer, ("pull",)) as service,
        registry(tmp_path / "registry", auth=service.settings, same_as=image.registry) as real,
    ):
        program.run("unpack", "--unsecure", real.source("os"), tmp_path / "tree").good()
        assert set(service.scopes) == {"repository:os:pull"}
        assert len(service.scopes) <= 2
    assert len(list((tmp_path / "tree/more").iterdir())) == LAYERS - 1


def test_rights_that_are_missing(program: Program, image: Stored, signer: Certificate, tmp_path: Path) -> None:
    """The login is right, and does not help: asked for a few times at most."""
    with (
        token_service(signer, (), logins=Logins(USER.encoded)) as service,
        registry(tmp_path / "registry", auth=service.settings, same_as=image.registry) as real,
        logins(one(real, USER.entry), "file", tmp_path),
    ):
        source = real.source("os")
        secret(program.run("inspect", "--unsecure", source), *USER.secrets, *service.tokens).error(repr(source), "401")
        assert 1 <= len(service.tokens) <= 3


def test_no_login_over_plain_http_for_a_registry_with_tls(
    program: Program, image: Stored, signer: Certificate, tmp_path: Path
) -> None:
    """Whoever can change the answer of a registry must not get the password sent in the clear."""
    authority = make_authority(tmp_path)
    certificate = make_server(tmp_path, authority)
    with (
        token_service(signer, ("pull",), logins=Logins(USER.encoded)) as service,
        registry(tmp_path / "registry", auth=service.settings, tls=certificate, same_as=image.registry) as real,
        logins(one(real, USER.entry), "file", tmp_path),
    ):
        source = real.source("os")
        ended = secret(program.run("inspect", source, env={"SSL_CERT_FILE": str(authority.certificate)}), *USER.secrets)
        ended.error(repr(source), "unencrypted", f"http://127.0.0.1:{service.port}/token")
        assert service.scopes == service.refused == []


def test_password_is_shown_when_it_is_asked_for(
    program: Program, image: Stored, guarded: Mapping[str, Guarded], tmp_path: Path
) -> None:
    with (
        fault_proxy(image.registry) as free,
        fault_proxy(guarded["basic"].registry) as wanting,
        logins(auth_json({free.host: USER.entry, wanting.host: USER.entry}), "file", tmp_path),
    ):
        for server in (free, wanting):
            found(program.run("inspect", "--json", "--unsecure", server.source("os")), image)
        assert not any(seen.authorization for seen in free.asked())
        assert wanting.asked()[0].authorization == ""
        assert {seen.authorization for seen in wanting.asked()} == {"", f"Basic {USER.encoded}"}
