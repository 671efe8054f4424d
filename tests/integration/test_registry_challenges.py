"""Registries' questions for a login are answered as skopeo answers them; where it cannot, the row says why we can."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.source.access import Access
from bootc_live.source.registry.source import open_registry
from bootc_live.source.retry import RetryPolicy
from tests.lib.archive_servers import Asked, Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import MEDIA_TYPES, sha256

SOME = {"mediaType": "a/b", "digest": sha256(b""), "size": 0}
TYPE = MEDIA_TYPES["oci"]["manifest"]
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": TYPE, "config": SOME, "layers": [SOME]}).encode()
BEARER = 'Bearer realm="http://HOST/token",service="s",scope="repository:os:pull"'
BASIC = 'Basic realm="Some Realm"'
LOGIN = "me:pw"


@dataclass(frozen=True)
class Asking:
    """The challenges of a registry, one a header, and whether there is a login; ``why`` where skopeo cannot answer."""

    challenges: tuple[str, ...]
    login: bool = False
    good: bool = True
    why: str = ""

    def __str__(self) -> str:
        return " | ".join(self.challenges) + " with a login" * self.login


ASKING = [
    Asking((BEARER,)),
    Asking((BEARER,), login=True),
    Asking((BEARER.replace("Bearer", "BEARER"),)),
    Asking((BEARER.replace("Bearer", "bearer"),), login=True),
    Asking((BEARER.replace(",", " ,\t"),)),
    Asking(("Negotiate", BEARER)),
    Asking(("NTLM", 'Digest realm="x", qop="auth, auth-int"', BEARER)),
    Asking((BEARER, BASIC)),
    Asking((BEARER, BASIC), login=True),
    Asking((BASIC, BEARER), login=True),
    Asking((BASIC,), login=True),
    Asking(("basic",), login=True),
    Asking(('BASIC realm="x", charset="UTF-8"',), login=True),
    Asking(("Negotiate", BASIC), login=True),
    Asking(('Bearer realm="http://HOST/token"',)),
    Asking(('Bearer realm="http://HOST/token?account=a"',)),
    Asking(('Bearer service="s"',), good=False),
    Asking(("Negotiate",), good=False),
    Asking(("Negotiate",), login=True, good=False),
    Asking((BASIC,), good=False),
    Asking((f"Negotiate, {BEARER}",), why="it reads one challenge of each header"),
    Asking((f"{BASIC}, {BEARER}",), login=True),
    Asking((f"{BEARER}, {BASIC}",)),
    Asking((BASIC, BEARER), why="it answers the first one, with no password"),
]


def registry_that_asks(asking: Asking) -> Callable[[Asked], Reply]:
    """Answer whoever shows a token or the login that is asked for, and ask everybody else."""
    basic = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"

    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/token"):
            return Reply(200, b'{"token": "T"}')
        known = {"Bearer T", *([basic] if "basic" in str(asking.challenges).lower() else [])}
        if asked.header("Authorization") in known:
            return Reply(200, MANIFEST, {"Content-Type": TYPE})
        wanted = [challenge.replace("HOST", asked.header("Host")) for challenge in asking.challenges]
        # Names that differ in case alone are one header several times.
        names = ["WWW-Authenticate", "www-authenticate", "Www-Authenticate"]
        return Reply(401, b"{}", dict(zip(names, wanted, strict=False)))

    return answer


def by_us(host: str, root: Path, *, login: bool) -> bool:
    """Tell whether the program gets the manifest."""
    (root / "etc/bootc-live").mkdir(parents=True)
    auths = {host: {"auth": base64.b64encode(LOGIN.encode()).decode()}} if login else {}
    (root / "etc/bootc-live/auth.json").write_text(json.dumps({"auths": auths}))
    access = Access(quiet, unsecure=True, policy=RetryPolicy(RetryLimits(tries=1)), root=str(root))
    try:
        with open_registry(RegistryImage(f"{host}/os", f"docker://{host}/os"), access) as source:
            return source.top().content == MANIFEST
    except SourceError:
        return False


def by_skopeo(host: str, *, login: bool) -> bool:
    """Tell whether skopeo gets the manifest."""
    as_whom = ["--creds", LOGIN] if login else ["--no-creds"]
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", *as_whom, f"docker://{host}/os"]
    done = subprocess.run(argv, capture_output=True, check=False)
    return done.returncode == 0 and done.stdout == MANIFEST


@pytest.mark.parametrize("asking", ASKING, ids=str)
def test_challenges(asking: Asking, tmp_path: Path) -> None:
    with archive_server(registry_that_asks(asking)) as served:
        host = f"127.0.0.1:{served.port}"
        found = by_us(host, tmp_path, login=asking.login), by_skopeo(host, login=asking.login)
    assert found == (asking.good, asking.good and not asking.why)
