"""What a registry source checks before it talks to anybody; the rest needs a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.source import trust_store
from bootc_live.source.registry import open_registry


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_store, "SYSTEM_BUNDLES", ())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def test_https_needs_authorities(tmp_path: Path) -> None:
    source = open_registry("a.example/os", "docker://a.example/os", unsecure=False, certificates=str(tmp_path))
    with pytest.raises(SourceError) as caught, source:
        pytest.fail("it would ask a registry that it cannot check")
    assert "'docker://a.example/os': there are no certificate authorities here" in caught.value.message
    assert "ca-certificates" in caught.value.hint
    assert str(tmp_path) in caught.value.hint


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("garbage")
    source = open_registry("a.example/os", "typed", unsecure=False, certificates=str(tmp_path))
    with pytest.raises(SourceError, match=r"a\.pem' cannot be used"), source:
        pytest.fail("it would fail at every request")


def test_unsecure_needs_none() -> None:
    """It gets as far as the connection; nothing listens on port 1."""
    with open_registry("127.0.0.1:1/os", "docker://127.0.0.1:1/os", unsecure=True) as source:
        assert source.insecure
        with pytest.raises(SourceError, match=r"cannot reach http://127\.0\.0\.1:1/v2/os/manifests/latest") as caught:
            source.top()
    assert "'docker://127.0.0.1:1/os'" in caught.value.message


@pytest.mark.parametrize("reference", ["a.example/OS", "a.example/os:", ""])
def test_bad_references(reference: str) -> None:
    with pytest.raises(SourceError, match="is not an image reference"):
        open_registry(reference, f"docker://{reference}", unsecure=True).__enter__()
