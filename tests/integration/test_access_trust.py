"""What is said of trusting a server counts for it in one role: not for another one, whatever host they share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.lib.access import ARCHIVE, Stored, rehearsed
from tests.lib.addressed import LOOPBACK
from tests.lib.fault_files import Files
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import fault_server
from tests.lib.faults import BLOBS, Fault, Rule
from tests.lib.host_files import AUTH, CERTIFICATES, host_files
from tests.lib.htpasswd import USER, auth_json, htpasswd
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.relay import tls_front
from tests.lib.tls import Certificate, make_authority, make_server
from tests.lib.token_server import Logins, token_service

pytest_plugins = ("tests.lib.access_fixtures",)


@pytest.fixture(scope="module")
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A server's certificate that no authority signed."""
    return make_server(tmp_path_factory.mktemp("nobody"), None)


CA = "basicConstraints = critical, CA:TRUE\n"
SIGNS = "keyUsage = critical, keyCertSign\n"
KEY_ID = "subjectKeyIdentifier = hash\n"
NAMED = "subjectAltName = {names}\n"
# Made by hand, by old scripts and by appliances: the authority's extensions, and its server's.
LAX = {
    "by the book": (CA + SIGNS + KEY_ID, f"{NAMED}authorityKeyIdentifier = keyid\n"),
    "server without the authority's key id": (CA + SIGNS + KEY_ID, f"{NAMED}authorityKeyIdentifier = none\n"),
    "basic constraints that are not critical": (f"basicConstraints = CA:TRUE\n{SIGNS}{KEY_ID}", NAMED),
    "no key usage": (CA + KEY_ID, NAMED),
    "no key id": (f"{CA}{SIGNS}subjectKeyIdentifier = none\n", f"{NAMED}authorityKeyIdentifier = none\n"),
    "no extension at all": ("", NAMED),
}


@pytest.mark.parametrize(("authority", "server"), LAX.values(), ids=LAX.keys())
def test_private_authorities(authority: str, server: str, program: Program, image: Stored, tmp_path: Path) -> None:
    """What curl accepts is accepted, with Python 3.13 too."""
    made = make_authority(tmp_path, extensions=authority)
    certificate = make_server(tmp_path, made, extensions=server)
    with tls_front(image.registry.port, certificate) as port, host_files({CERTIFICATES / "ca.crt": made.certificate}):
        url = f"https://{LOOPBACK}:{port}/v2/"
        curl = subprocess.run(["curl", "-sS", "-o", "/dev/null", "--cacert", made.certificate, url], check=False)
        ended = program.run("inspect", "--json", source(port))
        assert (ended.status == 0) == (curl.returncode == 0), ended.stderr


def source(port: int) -> str:
    return f"docker://{LOOPBACK}:{port}/os"


def test_archive_behind_https(program: Program, image: Stored, nobody: Certificate, tmp_path: Path) -> None:
    """Unsecure is said of registries; an archive is checked all the same, as a fallback too."""
    with fault_server(Files({ARCHIVE: image.archive}), tls=nobody) as server:
        url = f"{server.url}{ARCHIVE}"
        kargs = f"bootc.registry.unsecure bootc.live.fallback={url}"
        told = rehearsed(program, "/nowhere.oci", tmp_path, kargs).error(url, "certificate verify")
    assert "bootc.registry.unsecure" not in told


def test_plain_mirror_on_the_registry_s_own_host(
    program: Program, image: Stored, nobody: Certificate, tmp_path: Path
) -> None:
    """What is said of the mirror is not said of the registry, and the login is for the registry."""
    wanting = registry(tmp_path / "wanting", auth=htpasswd(tmp_path / "users", USER), same_as=image.registry)
    with wanting as real, tls_front(real.port, nobody) as port:
        kargs = f"bootc.registry.mirror=http://{LOOPBACK}:{port}"
        with host_files({AUTH: auth_json({f"{LOOPBACK}:{port}": USER.entry})}):
            for end in ("", f"@{image.digest}"):
                ended = rehearsed(program, f"{source(port)}{end}", tmp_path, kargs)
                ended.error(f"https://{LOOPBACK}:{port}", "certificate verify")
                assert ("401" in ended.stderr) == bool(end), "without the login, the mirror has nothing"


def test_unsecure_does_not_count_for_the_token_service(
    program: Program, image: Stored, nobody: Certificate, tmp_path: Path
) -> None:
    signer = make_server(tmp_path / "signer", None, name="signer", key="rsa")
    with (
        token_service(signer, ("pull",), logins=Logins(USER.encoded)) as service,
        tls_front(service.port, nobody) as front,
    ):
        settings = json.loads(
            json.dumps(service.settings).replace(f"http://127.0.0.1:{service.port}/", f"https://127.0.0.1:{front}/")
        )
        with (
            registry(tmp_path / "registry", auth=settings, same_as=image.registry) as real,
            host_files({AUTH: auth_json({real.host: USER.entry})}),
        ):
            told = rehearsed(program, real.source("os"), tmp_path, "bootc.registry.unsecure").error(
                f"https://127.0.0.1:{front}/token", "certificate verify"
            )
        assert service.scopes == service.refused == []
    assert "bootc.registry.unsecure" not in told


def test_unsecure_does_not_count_for_storage_elsewhere(
    program: Program, image: Stored, nobody: Certificate, tmp_path: Path
) -> None:
    with tls_front(image.registry.port, nobody) as port:
        moved = Rule(BLOBS, Fault(redirect=f"https://{LOOPBACK}:{port}"), times=None)
        with fault_proxy(image.registry, moved) as server:
            ended = rehearsed(program, server.source("os"), tmp_path, "bootc.registry.unsecure")
            ended.error(f"https://{LOOPBACK}:{port}/v2/os/blobs", "certificate verify")
