"""Which of a registry's questions for a login is answered: tokens first, a password only where there is one."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.formats import json_text
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT, parse_manifest
from bootc_live.source.access import Access
from bootc_live.source.registry.source import open_registry
from bootc_live.source.retry import RetryPolicy
from tests.lib.archive_servers import ArchiveServer, Asked, Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import sha256

BASIC = f"Basic {base64.b64encode(b'me:pw').decode()}"
BEARER = 'Bearer realm="REALM",service="s",scope="repository:os:pull"'
SOME = {"mediaType": "a/b", "digest": sha256(b""), "size": 0}
MANIFEST = json.dumps({"schemaVersion": 2, "config": SOME, "layers": [SOME]}).encode()
Give = Callable[[Asked], Reply]


def token(_asked: Asked) -> Reply:
    return Reply(200, json.dumps({"token": "T"}).encode())


def top(
    where: Path,
    good: str,
    challenges: Sequence[str],
    *,
    login: bool = False,
    give: Give = token,
    path: str = "/token",
    redirect: Reply | None = None,
) -> ArchiveServer:
    """The server that gave the manifest to whom it knows by the Authorization `good`, or a `redirect` to everybody."""

    def answer(asked: Asked) -> Reply:
        if redirect is not None:
            return redirect
        if asked.path.startswith("/token"):
            return give(asked)
        if asked.header("Authorization") == good:
            return Reply(200, MANIFEST, {"Content-Type": "application/json"})
        host = asked.header("Host")
        wanted = [challenge.replace("REALM", f"http://{host}{path}").replace("HOST", host) for challenge in challenges]
        # Header names that differ in case alone are one header several times.
        names = ["WWW-Authenticate", "www-authenticate", "Www-Authenticate"]
        return Reply(401, b"{}", dict(zip(names, wanted, strict=False)))

    with archive_server(answer) as served:
        reference = f"127.0.0.1:{served.port}/os"
        (where / "etc/bootc-live").mkdir(parents=True, exist_ok=True)
        auths = {f"127.0.0.1:{served.port}": {"auth": BASIC.partition(" ")[2]}} if login else {}
        (where / "etc/bootc-live/auth.json").write_text(json.dumps({"auths": auths, "credHelpers": {}}))
        access = Access(quiet, unsecure=True, policy=RetryPolicy(RetryLimits(tries=1)), root=str(where))
        with open_registry(RegistryImage(reference, f"docker://{reference}"), access) as source:
            assert parse_manifest(source.top().content).layers
    return served


def asked_for_tokens(served: ArchiveServer) -> list[Mapping[str, str]]:
    found = [urlsplit(asked.path) for asked in served.asked]
    return [dict(parse_qsl(url.query)) for url in found if url.path == "/token"]


NAMELESS = 'Basic realm="Some Realm"'


@pytest.mark.parametrize(
    "challenges",
    [
        [BEARER],
        [BEARER.replace("Bearer", "BEARER")],
        [f"Negotiate, {BEARER}"],
        ["Negotiate", BEARER],
        ["NTLM", 'Digest realm="x", qop="auth, auth-int"', BEARER],
        [NAMELESS, BEARER],
        [BEARER, NAMELESS],
        [f"{BEARER}, {NAMELESS}"],
        [f"{NAMELESS}, {BEARER}"],
        ['Bearer realm="nonsense"', BEARER],
        ["Bearer", BEARER],
        [BEARER.replace("REALM", "HTTP://HOST/token")],
    ],
)
@pytest.mark.parametrize("login", [False, True])
def test_tokens(challenges: list[str], login: bool, tmp_path: Path) -> None:
    served = top(tmp_path, "Bearer T", challenges, login=login)
    assert asked_for_tokens(served) == [{"service": "s", "scope": "repository:os:pull"}]
    (to_service,) = [asked for asked in served.asked if asked.path.startswith("/token")]
    assert to_service.header("Authorization") == (BASIC if login else "")


@pytest.mark.parametrize(
    "challenges",
    [
        [NAMELESS],
        ["BASIC"],
        ["Negotiate", NAMELESS],
        [f"Negotiate, {NAMELESS}"],
        [f"{NAMELESS}, Negotiate"],
        ["Bearer", NAMELESS],
        ['Bearer realm="nonsense"', NAMELESS],
    ],
)
def test_passwords(challenges: list[str], tmp_path: Path) -> None:
    served = top(tmp_path, BASIC, challenges, login=True)
    assert [asked.header("Authorization") for asked in served.asked][-2:] == ["", BASIC]
    with pytest.raises(SourceError, match=r"401|token service"):
        top(tmp_path, BASIC, challenges)


def test_a_password_where_the_token_service_has_nothing(tmp_path: Path) -> None:
    top(tmp_path, BASIC, [BEARER, NAMELESS], login=True, give=lambda _asked: Reply(404))


def test_no_password_where_the_token_service_is_only_busy(tmp_path: Path) -> None:
    """It is asked again later."""
    with pytest.raises(SourceError, match="503"):
        top(tmp_path, BASIC, [BEARER, NAMELESS], login=True, give=lambda _asked: Reply(503))


def test_storage_elsewhere_that_wants_a_login_gets_none(tmp_path: Path) -> None:
    wants = Reply(401, b"{}", {"WWW-Authenticate": NAMELESS})
    with archive_server(lambda _asked: wants) as storage:
        moved = Reply(307, b"", {"Location": f"http://127.0.0.1:{storage.port}/x"})
        with pytest.raises(SourceError, match="401") as caught:
            top(tmp_path, "", [], login=True, redirect=moved)
    assert "check the storage that 127.0.0.1:" in caught.value.hint
    assert [asked.header("Authorization") for asked in storage.asked] == [""]


def test_a_password_where_tokens_are_refused(tmp_path: Path) -> None:
    served = top(tmp_path, BASIC, [BEARER, NAMELESS], login=True)
    shown = [asked.header("Authorization") for asked in served.asked if asked.path.startswith("/v2/os/")]
    assert shown[-3:] == ["", "Bearer T", BASIC]
    for challenges, login in (([BEARER, NAMELESS], False), ([BEARER], True)):
        with pytest.raises(SourceError, match="401"):
            top(tmp_path, BASIC, challenges, login=login)


@pytest.mark.parametrize(
    ("challenge", "query"),
    [
        ('Bearer realm="REALM"', {"scope": "repository:os:pull"}),
        ('Bearer realm="REALM",service="s"', {"service": "s", "scope": "repository:os:pull"}),
        ('Bearer realm="REALM",scope=""', {"scope": "repository:os:pull"}),
        ('Bearer realm="REALM",scope="repository:x:pull,push"', {"scope": "repository:x:pull,push"}),
    ],
)
@pytest.mark.parametrize(
    ("path", "more"),
    [("/token", {}), ("/token?account=a%20b&x=", {"account": "a b"}), ("/token?service=own", {"service": "own"})],
)
def test_what_is_asked_for(
    challenge: str, query: dict[str, str], path: str, more: dict[str, str], tmp_path: Path
) -> None:
    """The repository is known whatever the registry says of it; what the realm has in its query stays."""
    (found,) = asked_for_tokens(top(tmp_path, "Bearer T", [challenge], path=path))
    assert found == {**more, **query}


@pytest.mark.parametrize(
    "body",
    [
        {"token": "T"},
        {"access_token": "T", "expires_in": 300},
        {"token": "", "access_token": "T"},
        {"token": None, "access_token": "T"},
    ],
)
@pytest.mark.parametrize(("packed", "said"), [(False, None), (False, "gzip"), (True, "gzip"), (True, None)])
def test_answers_of_token_services(body: object, packed: bool, said: str | None, tmp_path: Path) -> None:
    """Compressed although nobody asked for that, and whatever the header says of it."""
    text = json.dumps(body).encode()
    headers = {"Content-Encoding": said} if said else {}

    def give(_asked: Asked) -> Reply:
        return Reply(200, gzip.compress(text) if packed else text, headers)

    top(tmp_path, "Bearer T", [BEARER], give=give)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"T",
        b"[]",
        b'{"token": 7}',
        b'{"token": "a b"}',
        b'{"token": "a\\nX: y"}',
        b'{"token": "\\u20ac"}',
        b"[" * 100_000,
        gzip.compress(b'{"token": "T"}')[:-9],
        gzip.compress(b'{"token": "T"}') + b"more",
        gzip.compress(b" " * (MANIFEST_LIMIT + 1)),
        b"\x1f\x8b" + bytes(9),
    ],
    ids=range(12),
)
def test_answers_that_are_no_tokens(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"token|compressed|has more than"):
        top(tmp_path, "Bearer T", [BEARER], give=lambda _asked: Reply(200, body))


def test_tokens_have_a_bound_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is never content with one is not asked for ever."""
    monkeypatch.setattr(json_text, "LARGEST_TOGETHER", 10_000)
    given: list[bytes] = []

    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            given.append(json.dumps({"token": "T" * 990}).encode())
            return Reply(200, given[-1])
        realm = f"http://{asked.header('Host')}/token"
        return Reply(401, b"{}", {"WWW-Authenticate": BEARER.replace("REALM", realm)})

    with archive_server(answer) as served:
        reference = f"127.0.0.1:{served.port}/os"
        access = Access(quiet, unsecure=True, policy=RetryPolicy(RetryLimits(tries=1)), root=str(tmp_path))
        with open_registry(RegistryImage(reference, f"docker://{reference}"), access) as source:
            for _ in range(10):
                with pytest.raises(SourceError, match=r"401|sent no token"):
                    source.top()
            with pytest.raises(SourceError, match="sent no token"):
                source.top()
    assert 9 < len(given) < 25


def test_a_registry_that_takes_something_else(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it supports only negotiate, ntlm"):
        top(tmp_path, BASIC, ["Negotiate", "NTLM"], login=True)


def test_a_server_that_answers_no_ranges_at_all(tmp_path: Path) -> None:
    """Nothing is asked for in parts before it has to be, not even to find out who answers."""

    def answer(asked: Asked) -> Reply:
        return Reply(400) if asked.span else Reply(200, MANIFEST, {"Content-Type": "application/json"})

    with archive_server(answer) as served:
        reference = f"127.0.0.1:{served.port}/os"
        access = Access(quiet, unsecure=True, policy=RetryPolicy(RetryLimits(tries=1)), root=str(tmp_path))
        with open_registry(RegistryImage(reference, f"docker://{reference}"), access) as source:
            assert source.top().content == MANIFEST
