"""Whom HTTPS trusts: the system's bundle, a chosen one, extra files joined to it, and certificates of one host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.config.surroundings import Surroundings
from bootc_live.source.http import trust
from bootc_live.source.http.trust import Trust, TrustError, opened_trust, system_bundle
from tests.lib.tls import make_authority, make_server

URL = "https://a.example:5000/v2/"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system bundle of our own, the second of the usual places."""
    path = tmp_path / "system.pem"
    path.write_bytes(b"SYSTEM\n")
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", (str(tmp_path / "missing.pem"), str(path)))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("authority")).certificate


def settings(surroundings: Surroundings, directory: Path, url: str = URL, *, unsecure: bool = False) -> trust.Settings:
    return Trust(surroundings, str(directory), unsecure=unsecure).for_url(url)


def test_system_alone(system: Path, tmp_path: Path) -> None:
    assert settings(Surroundings(), tmp_path) == (str(system), None)


@pytest.mark.parametrize("unsecure", [False, True])
def test_plain_http_is_not_checked(unsecure: bool, tmp_path: Path) -> None:
    assert settings(Surroundings(), tmp_path, "http://a.example/", unsecure=unsecure) == (False, None)


def test_none_at_all(system: Path, tmp_path: Path) -> None:
    system.unlink()
    with pytest.raises(TrustError, match=r"who a\.example:5000 is: there are no certificate authorities") as caught:
        settings(Surroundings(), tmp_path)
    assert "ca-certificates" in caught.value.hint
    assert settings(Surroundings(), tmp_path, unsecure=True) == (False, None)


def test_environment_replaces_the_system(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tmp_path / "chosen.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    assert system_bundle() == str(system)
    chosen.write_text("CHOSEN\n")
    assert system_bundle() == str(chosen)


def test_extra_files_are_joined_and_removed(system: Path, authority: Path) -> None:
    with opened_trust(Surroundings(authorities=(str(authority),)), unsecure=False) as opened:
        bundle, _ = opened.for_url(URL)
        assert Path(str(bundle)).read_bytes() == system.read_bytes() + b"\n" + authority.read_bytes() + b"\n"
        assert opened.for_url("https://b.example/")[0] != bundle
    assert not os.path.exists(str(bundle))


@pytest.mark.usefixtures("system")
def test_an_authority_of_one_host(authority: Path, tmp_path: Path) -> None:
    own = tmp_path / "certs.d" / "a.example:5000"
    own.mkdir(parents=True)
    (own / "ca.crt").write_bytes(authority.read_bytes())
    surroundings = Surroundings(host_directories=(str(tmp_path / "certs.d"),))
    with opened_trust(surroundings, unsecure=False) as opened:
        assert authority.read_text() in Path(str(opened.for_url(URL)[0])).read_text()
        assert Path(str(opened.for_url("https://user:pw@a.example/")[0])).read_text() == "SYSTEM\n"
        opened.leave_unchecked("a.example:5000")
        assert opened.for_url(URL)[0] is False
        assert opened.for_url("https://a.example/")[0] is not False


@pytest.mark.usefixtures("system")
def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_text("garbage")
    with pytest.raises(TrustError, match=r"a\.pem' cannot be used"):
        settings(Surroundings(authorities=(str(path),)), tmp_path)


@pytest.mark.usefixtures("system")
def test_client_certificates(tmp_path: Path) -> None:
    own = tmp_path / "certs.d" / "a.example:5000"
    made = make_server(own, None, name="client")
    made.certificate.rename(own / "client.cert")
    surroundings = Surroundings(host_directories=(str(tmp_path / "certs.d"),))
    shown = str(own / "client.cert"), str(own / "client.key")
    assert settings(surroundings, tmp_path)[1] == shown
    assert settings(surroundings, tmp_path, unsecure=True) == (False, shown)
    assert settings(surroundings, tmp_path, "https://b.example/")[1] is None
    (own / "client.key").write_text("garbage")
    with pytest.raises(TrustError, match=r"client certificate for a\.example:5000 .* cannot be used"):
        settings(surroundings, tmp_path)
