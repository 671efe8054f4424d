"""Whom HTTPS trusts: the system's bundle, a chosen one, extra files beside it, and certificates of one host."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from bootc_live.config.host.host_config import HostConfig
from bootc_live.source.http import trust
from bootc_live.source.http.trust import Trust, TrustError, system_bundle
from tests.lib.tls import Certificate, make_authority, make_server

URL = "https://a.example:5000/v2/"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two authorities."""
    where = tmp_path_factory.mktemp("authority")
    for name in ("authority", "system"):
        make_authority(where, name)
    return where


@pytest.fixture
def authority(made: Path) -> Path:
    return made / "authority.crt"


@pytest.fixture
def system(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system bundle of our own, the second of the usual places."""
    path = tmp_path / "system.pem"
    path.write_bytes((made / "system.crt").read_bytes())
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", (str(tmp_path / "missing.pem"), str(path)))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return path


def names(context: ssl.SSLContext) -> set[str]:
    """Of the authorities that it trusts."""
    return {str(one["subject"][0][0][1]).split()[-1] for one in context.get_ca_certs()}


def context(host_config: HostConfig, url: str = URL, *, checked: bool = True) -> ssl.SSLContext:
    return Trust(host_config).context(url, checked=checked)


@pytest.mark.usefixtures("system")
def test_system_alone() -> None:
    made = context(HostConfig())
    assert names(made) == {"system"}
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT


def test_none_at_all(system: Path) -> None:
    system.unlink()
    with pytest.raises(TrustError, match=r"verify a\.example:5000: there are no certificate authorities") as caught:
        context(HostConfig())
    assert "ca-certificates" in caught.value.hint
    assert context(HostConfig(), checked=False).verify_mode == ssl.CERT_NONE


def test_environment_replaces_the_system(
    system: Path, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "chosen.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    assert system_bundle() == str(system)
    chosen.write_bytes(authority.read_bytes())
    assert names(context(HostConfig())) == {"authority"}


@pytest.mark.usefixtures("system")
def test_nothing_else_of_the_environment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSLKEYLOGFILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    made = context(HostConfig())
    assert names(made) == {"system"}
    assert not made.keylog_filename


@pytest.mark.usefixtures("system")
def test_extra_files_count_beside_the_system(authority: Path) -> None:
    assert names(context(HostConfig(authorities=(str(authority),)))) == {"system", "authority"}


@pytest.mark.usefixtures("system")
def test_an_authority_of_one_host(authority: Path, tmp_path: Path) -> None:
    own = tmp_path / "certs.d" / "a.example:5000"
    own.mkdir(parents=True)
    (own / "ca.crt").write_bytes(authority.read_bytes())
    opened = Trust(HostConfig(host_directories=(str(tmp_path / "certs.d"),)))
    assert names(opened.context(URL, checked=True)) == {"system", "authority"}
    assert names(opened.context("https://user:pw@a.example/", checked=True)) == {"system"}


@pytest.mark.usefixtures("system")
def test_who_is_not_checked_shares_nothing() -> None:
    """The context decides who shares connections."""
    opened = Trust(HostConfig())
    checked, unchecked = (opened.context(URL, checked=value) for value in (True, False))
    assert checked is not unchecked
    assert opened.context(f"{URL}other", checked=True) is checked
    assert checked.verify_mode == ssl.CERT_REQUIRED
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.usefixtures("system")
def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_text("garbage")
    with pytest.raises(TrustError, match=r"cannot use the CA file '.*a\.pem'"):
        context(HostConfig(authorities=(str(path),)))


@pytest.mark.usefixtures("system")
def test_client_certificates(tmp_path: Path) -> None:
    own = tmp_path / "certs.d" / "a.example:5000"
    made: Certificate = make_server(own, None, name="client")
    made.certificate.rename(own / "client.cert")
    host_config = HostConfig(host_directories=(str(tmp_path / "certs.d"),))
    for checked in (True, False):
        context(host_config, checked=checked)
    (own / "client.key").write_text("garbage")
    context(host_config, "https://b.example/")
    for checked in (True, False):
        with pytest.raises(TrustError, match=r"cannot use the client certificate for a\.example:5000"):
            context(host_config, checked=checked)
