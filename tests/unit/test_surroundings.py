"""What a host brings along: each file in its place, and the order in which they count."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.host_config import HostCertificates, HostConfig, read_host_config
from bootc_live.config.host.logins import Logins
from bootc_live.config.host.routes import RegistryRules

ENVIRON = {"REGISTRY_AUTH_FILE": "/named/auth.json", "XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}
# As they count, the first one first.
AUTH_FILES = [
    "run/credentials/@system/bootc-live.auth",
    "named/auth.json",
    "etc/bootc-live/auth.json",
    "run/ostree/auth.json",
    "etc/ostree/auth.json",
    "usr/lib/ostree/auth.json",
    "run/user/0/containers/auth.json",
    f"run/containers/{os.geteuid()}/auth.json",
    "root/.config/containers/auth.json",
    "root/.docker/config.json",
]


def write(root: Path, path: str, content: str = "x") -> str:
    """Write a file of the host; gives its path."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return str(file)


def login(root: Path, path: str) -> str:
    """Write a file with one login whose user is the path."""
    return write(root, path, json.dumps({"auths": {"a.example": {"username": path, "password": "pw"}}}))


def user(root: Path, environ: dict[str, str]) -> str | None:
    found = read_host_config(str(root), environ).logins.find("a.example", "os")
    return found.username if found else None


def test_a_bare_host(tmp_path: Path) -> None:
    found = read_host_config(str(tmp_path), {})
    assert (found.rules, found.logins, found.authorities) == (RegistryRules(), Logins(), ())
    assert (found.client, found.identity) == (None, "")
    assert found.for_host("a.example") == HostCertificates()
    assert HostConfig().for_host("a.example") == HostCertificates()


@pytest.mark.parametrize("first", range(len(AUTH_FILES)))
def test_order_of_logins(tmp_path: Path, first: int) -> None:
    for path in AUTH_FILES[first:]:
        login(tmp_path, path)
    environ = dict(ENVIRON)
    if first > 1:
        del environ["REGISTRY_AUTH_FILE"]
    assert user(tmp_path, environ) == AUTH_FILES[first]


def test_without_variables_podman_writes_below_run(tmp_path: Path) -> None:
    for path in AUTH_FILES[6:]:
        login(tmp_path, path)
    assert user(tmp_path, {}) == user(tmp_path, {"HOME": ""}) == AUTH_FILES[7]


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"REGISTRY_AUTH_FILE names '/named/auth.json', which is not a file"):
        read_host_config(str(tmp_path), ENVIRON)


def test_a_damaged_login_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "etc/ostree/auth.json", "S3CRET")
    with pytest.raises(ConfigError) as caught:
        read_host_config(str(tmp_path), {})
    assert caught.value.message == f"{path!r} is not JSON"


def test_an_unreadable_login_file_is_named(tmp_path: Path) -> None:
    """Reading the start of one's own memory fails for everybody, root too."""
    (tmp_path / "etc/ostree").mkdir(parents=True)
    (tmp_path / "etc/ostree/auth.json").symlink_to("/proc/self/mem")
    with pytest.raises(ConfigError, match=r"cannot read '.*/etc/ostree/auth\.json': Input/output error"):
        read_host_config(str(tmp_path), {})


def test_rules_of_the_credential_come_before_those_of_the_file(tmp_path: Path) -> None:
    write(
        tmp_path, "etc/bootc-live/registries.yaml", "registries: [{prefix: a, location: x}, {prefix: b, location: y}]"
    )
    rules = read_host_config(str(tmp_path), {}).rules
    assert [rules.resolve(name, "os").origin.host for name in "abc"] == ["x", "y", "c"]
    write(tmp_path, "run/credentials/@system/bootc-live.registries", "registries: [{prefix: a, location: z}]")
    rules = read_host_config(str(tmp_path), {}).rules
    assert [rules.resolve(name, "os").origin.host for name in "abc"] == ["z", "y", "c"]


def test_damaged_rules_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "run/credentials/@system/bootc-live.registries", "registries: 5")
    with pytest.raises(ConfigError) as caught:
        read_host_config(str(tmp_path), {})
    assert caught.value.message == f"{path!r} cannot be used: the file: registries is not a list"


def test_authorities(tmp_path: Path) -> None:
    certs = "etc/bootc-live/certs.d"
    expected = [write(tmp_path, f"{certs}/{name}") for name in ("a.pem", "b.crt")]
    for name in ("c.txt", "d.crt/inner.crt", "a.example/ca.crt"):
        write(tmp_path, f"{certs}/{name}")
    write(tmp_path, "etc/containers/certs.d/e.crt")
    assert read_host_config(str(tmp_path), {}).authorities == tuple(expected)
    expected.append(write(tmp_path, "run/credentials/@system/bootc-live.ca"))
    assert read_host_config(str(tmp_path), {}).authorities == tuple(expected)


def test_certificates_of_a_host(tmp_path: Path) -> None:
    host = "a.example:5000"
    own = f"etc/bootc-live/certs.d/{host}"
    cas = [write(tmp_path, f"{own}/{name}.crt") for name in ("1", "2")]
    cas += [write(tmp_path, f"etc/{program}/certs.d/{host}/ca.crt") for program in ("containers", "docker")]
    for name in ("client.cert", "client.key"):
        write(tmp_path, f"etc/docker/certs.d/{host}/{name}")
    certificate, key = (write(tmp_path, f"etc/containers/certs.d/{host}/me.{kind}") for kind in ("cert", "key"))
    found = read_host_config(str(tmp_path), {})
    assert found.for_host(host) == HostCertificates(tuple(cas), certificate, key)
    assert found.for_host("a.example") == HostCertificates()
    certificate, key = (write(tmp_path, f"{own}/client.{kind}") for kind in ("cert", "key"))
    assert found.for_host(host) == HostCertificates(tuple(cas), certificate, key)


@pytest.mark.parametrize(("there", "missing"), [("client.cert", "client.key"), ("client.key", "client.cert")])
def test_half_a_client_certificate(tmp_path: Path, there: str, missing: str) -> None:
    path = write(tmp_path, f"etc/bootc-live/certs.d/a.example/{there}")
    found = read_host_config(str(tmp_path), {})
    with pytest.raises(ConfigError) as caught:
        found.for_host("a.example")
    assert caught.value.message == f"{path!r} needs the file {missing} in the same directory"
    assert found.for_host("b.example") == HostCertificates()


def test_the_client_credential_is_for_hosts_without_their_own(tmp_path: Path) -> None:
    both = write(tmp_path, "run/credentials/@system/bootc-live.client")
    own = [write(tmp_path, f"etc/bootc-live/certs.d/a.example/client.{kind}") for kind in ("cert", "key")]
    authority = write(tmp_path, "etc/bootc-live/certs.d/b.example/ca.crt")
    found = read_host_config(str(tmp_path), {})
    assert found.for_host("a.example") == HostCertificates((), *own)
    assert found.for_host("b.example") == HostCertificates((authority,), both, both)
    assert found.for_host("c.example") == HostCertificates((), both, both)


@pytest.mark.parametrize("host", ["", ".", "..", "../certs.d/a.example", "a.example/"])
def test_a_host_is_no_path(tmp_path: Path, host: str) -> None:
    for path in ("etc/bootc-live/certs.d/a.example/x.crt", "etc/bootc-live/certs.d/y.crt", "etc/bootc-live/z.crt"):
        write(tmp_path, path)
    assert read_host_config(str(tmp_path), {}).for_host(host) == HostCertificates()


def test_identity(tmp_path: Path) -> None:
    write(tmp_path, "etc/machine-id", "0123\n")
    assert read_host_config(str(tmp_path), {}).identity == "0123"


def test_secrets_do_not_show(tmp_path: Path) -> None:
    write(tmp_path, AUTH_FILES[0], '{"auths": {"a": {"username": "me", "password": "S3CRET"}}}')
    found = read_host_config(str(tmp_path), {})
    assert found.logins.find("a", "x") is not None
    assert "S3CRET" not in repr(found)


def test_a_directory_is_no_credential(tmp_path: Path) -> None:
    (tmp_path / "run/credentials/@system/bootc-live.client").mkdir(parents=True)
    assert read_host_config(str(tmp_path), {}).client is None
