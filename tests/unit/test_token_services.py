"""Whom a login is sent to: no registry chooses that by the token service it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError, SourceError
from bootc_live.config.host.logins import AuthFile, Login, Logins
from bootc_live.config.host.registries import parse_rules
from bootc_live.config.host.routes import Endpoint
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.source.access import Access
from bootc_live.source.http.client import normal_url
from bootc_live.source.registry.source import open_registry
from bootc_live.source.registry.token_services import gets_login
from bootc_live.source.retry import RetryPolicy
from tests.lib.archive_servers import ArchiveServer, Asked, Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import sha256

LOGIN = Login("me", "pw")
GITLAB = "https://gitlab.example/jwt/auth"
BASIC = "Basic bWU6cHc="


@pytest.mark.parametrize(
    ("realm", "registry", "named", "sent"),
    [
        ("https://registry.example/token", "registry.example", None, True),
        ("https://registry.example/token", "registry.example:5000", None, True),
        ("https://REGISTRY.example:5001/x", "Registry.Example", None, True),
        ("https://[fd00::1]:5001/token", "[fd00::1]:5000", None, True),
        ("https://auth.registry.example/token", "registry.example", None, False),
        ("https://example/token", "registry.example", None, False),
        ("https://registry.example.evil.example/token", "registry.example", None, False),
        ("https://registry.example@evil.example/token", "registry.example", None, False),
        # What stands before the last @ is a login, which is left out of the request.
        ("https://evil.example\\@registry.example/token", "registry.example", None, True),
        ("https://evil.example/registry.example", "registry.example", None, False),
        ("https://evil.example#@registry.example/", "registry.example", None, False),
        ("https://registry.example./token", "registry.example", None, False),
        ("https://auth.docker.io/token", "docker.io", None, True),
        ("https://auth.docker.io/token", "registry-1.docker.io", None, True),
        ("https://auth.docker.io/other", "docker.io", None, False),
        ("http://auth.docker.io/token", "docker.io", None, False),
        ("https://auth.docker.io/token", "registry.example", None, False),
        ("https://gitlab.com/jwt/auth", "registry.gitlab.com", None, True),
        ("https://gitlab.com/jwt/auth", "registry.gitlab.com:5050", None, False),
        (GITLAB, "registry.example", None, False),
        (GITLAB, "registry.example", GITLAB, True),
        (GITLAB, "registry.example", "https://gitlab.example", True),
        (GITLAB, "registry.example", "https://gitlab.example:443/", True),
        ("https://gitlab.example:8443/jwt/auth", "registry.example", GITLAB, False),
        ("http://gitlab.example/jwt/auth", "registry.example", GITLAB, False),
        ("https://gitlab.example/~guest/auth", "registry.example", GITLAB, False),
        ("https://auth.docker.io/token", "docker.io", GITLAB, False),
        ("https://same.example/token", "registry.example", None, True),
        ("https://same.example:5000/token", "registry.example", None, False),
        ("https://other.example/token", "registry.example", None, False),
        ("https://damaged.example/token", "registry.example", None, False),
    ],
)
def test_who_gets_a_login(realm: str, registry: str, named: str | None, sent: bool) -> None:
    others: dict[str, Login | ConfigError] = {
        "same.example": LOGIN,
        "other.example": Login("me", "other"),
        "damaged.example": ConfigError("damaged", hint=""),
    }
    endpoint = Endpoint(registry, "os", token_service=named)
    assert gets_login(normal_url(realm), registry, endpoint, LOGIN, Logins((AuthFile("it", others),))) is sent


RULES = """
registries:
  - location: registry.example
    token-service: https://gitlab.example/jwt/auth
    mirrors: [{location: m.example/x, token-service: "https://auth.m.example"}, {location: n.example}]
  - prefix: other.example
    location: registry.example/other
"""


def test_the_registries_file_names_them() -> None:
    rules = parse_rules(RULES, "it")
    route = rules.resolve("registry.example", "os")
    assert [place.token_service for place in (route.origin, *route.mirrors)] == [GITLAB, "https://auth.m.example", None]
    assert rules.resolve("other.example", "os").origin.token_service is None


@pytest.mark.parametrize(
    "text", ["gitlab.example", "ftp://gitlab.example", "https://", "https://me:pw@a.b/", "https://a/?x"]
)
def test_what_is_no_token_service(text: str) -> None:
    with pytest.raises(ConfigError, match=r"token-service .* is not https://HOST") as caught:
        parse_rules(f"registries: [{{location: a.example, token-service: '{text}'}}]", "it")
    assert "pw" not in caught.value.message


def fetched(where: Path, rules: str, *, public: bool, login: object = None) -> ArchiveServer:
    """Ask a registry for an image whose token service is on another host; it wants a login unless it is public."""

    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            known = public or BASIC in asked.header("Authorization") or b"refresh_token=T" in asked.body
            return Reply(200 if known else 401, json.dumps({"token": "T"}).encode() if known else b"{}")
        if asked.header("Authorization") == "Bearer T":
            return Reply(200, manifest, {"Content-Type": "application/json"})
        realm = f"http://localhost:{asked.header('Host').rpartition(':')[2]}/token"
        return Reply(401, b"{}", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})

    some = {"mediaType": "a/b", "digest": sha256(b""), "size": 0}
    manifest = json.dumps({"schemaVersion": 2, "config": some, "layers": [some]}).encode()
    with archive_server(answer) as served:
        host = f"127.0.0.1:{served.port}"
        (where / "etc/bootc-live").mkdir(parents=True, exist_ok=True)
        auths = {host: login or {"auth": BASIC.partition(" ")[2]}}
        (where / "etc/bootc-live/auth.json").write_text(json.dumps({"auths": auths}))
        (where / "etc/bootc-live/registries.yaml").write_text(
            rules.replace("HOST", host).replace("PORT", str(served.port))
        )
        access = Access(quiet, unsecure=True, policy=RetryPolicy(RetryLimits(tries=1)), root=str(where))
        try:
            with open_registry(RegistryImage(f"{host}/os", f"docker://{host}/os"), access) as source:
                source.top()
        finally:
            shown = [asked.header("Authorization") for asked in served.asked if asked.path.startswith("/token")]
            assert rules or not any(shown), "another host got the login"
    return served


NAMED = "registries: [{location: 'HOST', token-service: 'http://localhost:PORT/token'}]"


def test_another_host_gets_no_login(tmp_path: Path) -> None:
    """An image for everybody needs none."""
    fetched(tmp_path, "", public=True)
    for login in (None, {"identitytoken": "T"}):
        with pytest.raises(SourceError, match="the login was not sent to http://localhost:") as caught:
            fetched(tmp_path, "", public=False, login=login)
        assert "'token-service: http://localhost:" in caught.value.hint
        assert "none is configured" not in caught.value.message


def test_a_token_service_that_is_named_gets_it(tmp_path: Path) -> None:
    fetched(tmp_path, NAMED, public=False)
    fetched(tmp_path, NAMED, public=False, login={"identitytoken": "T"})
