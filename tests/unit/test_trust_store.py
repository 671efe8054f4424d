"""Certificate authorities: the system's bundle, a chosen one, and extra files joined to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.source import trust_store
from bootc_live.source.trust_store import ca_bundle, extra_authorities


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system bundle of our own, the second of the usual places."""
    path = tmp_path / "system.pem"
    path.write_bytes(b"SYSTEM\n")
    monkeypatch.setattr(trust_store, "SYSTEM_BUNDLES", (str(tmp_path / "missing.pem"), str(path)))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return path


@pytest.fixture
def extra(tmp_path: Path) -> Path:
    path = tmp_path / "certs.d"
    path.mkdir()
    return path


def test_system_alone(system: Path, extra: Path) -> None:
    with ca_bundle(str(extra)) as bundle:
        assert bundle == str(system)
    with ca_bundle("/nonexistent") as bundle:
        assert bundle == str(system)


def test_none_at_all(system: Path, extra: Path) -> None:
    system.unlink()
    with ca_bundle(str(extra)) as bundle:
        assert bundle is None


def test_environment_replaces_the_system(
    system: Path, extra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "chosen.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    with ca_bundle(str(extra)) as bundle:
        assert bundle == str(system)
    chosen.write_text("CHOSEN\n")
    with ca_bundle(str(extra)) as bundle:
        assert bundle == str(chosen)


@pytest.mark.usefixtures("system")
def test_extra_files_are_joined_and_removed(extra: Path) -> None:
    (extra / "b.pem").write_bytes(b"B")
    (extra / "a.crt").write_bytes(b"A")
    (extra / "notes.txt").write_bytes(b"NOT A CERTIFICATE")
    assert extra_authorities(str(extra)) == [str(extra / "a.crt"), str(extra / "b.pem")]
    with ca_bundle(str(extra)) as bundle:
        assert bundle is not None
        assert Path(bundle).read_bytes() == b"SYSTEM\n\nA\nB\n"
    assert not os.path.exists(bundle)


def test_extra_without_a_system(system: Path, extra: Path) -> None:
    system.unlink()
    (extra / "a.crt").write_bytes(b"A")
    with ca_bundle(str(extra)) as bundle:
        assert bundle is not None
        assert Path(bundle).read_bytes() == b"A\n"


@pytest.mark.usefixtures("system")
def test_removed_after_an_error(extra: Path) -> None:
    (extra / "a.crt").write_bytes(b"A")
    bundle = ca_bundle(str(extra))
    joined = bundle.__enter__()
    assert joined
    assert os.path.exists(joined)
    assert not bundle.__exit__(RuntimeError, RuntimeError(), None)
    assert not os.path.exists(joined)
