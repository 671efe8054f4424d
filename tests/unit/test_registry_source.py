"""What a registry source checks before it talks to anybody; the rest needs a registry."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.model import Mirror, RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.formats.oci.descriptor import parse_descriptor
from bootc_live.image.verify import digest_of
from bootc_live.source.access import Access
from bootc_live.source.http import trust
from bootc_live.source.interface import TopManifest
from bootc_live.source.registry.source import open_registry
from bootc_live.source.retry import RetryPolicy
from tests.lib.archive_servers import Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.tls import make_authority


def ask(spec: RegistryImage, access: Access) -> TopManifest:
    with open_registry(spec, access) as source:
        assert source.insecure is access.unsecure
        return source.top()


@pytest.fixture(autouse=True)
def _no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", ())
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


def failure(reference: str, root: Path, *, unsecure: bool = False) -> SourceError:
    """What asking for the manifest says."""
    access = Access(quiet, unsecure=unsecure, policy=RetryPolicy(RetryLimits(tries=1)), root=str(root))
    with pytest.raises(SourceError) as caught:
        ask(RegistryImage(reference, f"docker://{reference}"), access)
    assert f"'docker://{reference}'" in caught.value.message
    return caught.value


def test_https_needs_authorities(tmp_path: Path) -> None:
    error = failure("a.example/os", tmp_path)
    assert "there are no certificate authorities" in error.message
    assert "ca-certificates" in error.hint


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    path = tmp_path / "etc/bootc-live/certs.d/a.pem"
    path.parent.mkdir(parents=True)
    path.write_text("garbage")
    assert "a.pem': " in failure("a.example/os", tmp_path).message


def test_unsecure_needs_none(tmp_path: Path) -> None:
    """It gets as far as the connection; nothing listens on port 1."""
    error = failure("127.0.0.1:1/os", tmp_path, unsecure=True)
    assert "cannot reach http://127.0.0.1:1/v2/os/manifests/latest" in error.message
    assert "bootc.registry.unsecure" not in error.hint


@pytest.mark.parametrize("reference", ["a.example/OS", "a.example/os:", ""])
def test_bad_references(reference: str, tmp_path: Path) -> None:
    assert "is not an image reference" in failure(reference, tmp_path, unsecure=True).message


def test_a_registry_s_word_does_not_replace_the_digest_asked_for(tmp_path: Path) -> None:
    """Whoever sends another manifest sends its digest along."""
    answer = Reply(200, b"{}", {"Docker-Content-Digest": digest_of(b"{}")})
    pinned = digest_of(b"another")
    with archive_server(lambda _asked: answer) as served:
        reference = f"127.0.0.1:{served.port}/os@{pinned}"
        access = Access(quiet, unsecure=True, root=str(tmp_path))
        assert ask(RegistryImage(reference, f"docker://{reference}"), access).digest == pinned


@pytest.mark.parametrize("insecure", [False, True])
def test_unsecure_does_not_count_for_mirrors(insecure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are insecure where that is said of them."""
    monkeypatch.setattr(trust, "SYSTEM_BUNDLES", (str(make_authority(tmp_path).certificate),))
    answer = Reply(200, b'{"manifests": []}')
    with archive_server(lambda _asked: answer) as mirror, archive_server(lambda _asked: answer) as home:
        mirrors = (Mirror(f"127.0.0.1:{mirror.port}", insecure=insecure),)
        reference = f"127.0.0.1:{home.port}/os@{digest_of(answer.body)}"
        access = Access(quiet, unsecure=True, mirrors=mirrors, root=str(tmp_path))
        ask(RegistryImage(reference, f"docker://{reference}"), access)
    assert bool(mirror.asked) == insecure


SOME = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("said", ["gzip", "identity", None])
def test_documents_that_come_compressed(packed: bool, said: str | None, tmp_path: Path) -> None:
    """Some servers do that although nobody asked for it; digests are over what was compressed."""
    content = b'{"some": "document"}'
    entry = replace(parse_descriptor(SOME), digest=digest_of(content), size=len(content))
    headers = {"Content-Encoding": said} if said else {}
    answer = Reply(200, gzip.compress(content) if packed else content, headers)
    with archive_server(lambda _asked: answer) as served:
        reference = f"127.0.0.1:{served.port}/os"
        access = Access(quiet, unsecure=True, root=str(tmp_path))
        with open_registry(RegistryImage(reference, f"docker://{reference}"), access) as source:
            assert source.top().content == content
            for opener in (source.open_manifest, source.open_blob):
                with opener(entry) as chunks:
                    assert b"".join(chunks) == content
            # A layer is what the registry has.
            with source.open_blob(replace(entry, media_type="application/vnd.oci.image.layer.v1.tar+gzip")) as chunks:
                assert b"".join(chunks) == answer.body


@pytest.mark.parametrize(("pinned", "media_type"), [(False, "application/x"), (True, "")])
def test_what_is_said_of_pinned_bytes_does_not_count(pinned: bool, media_type: str, tmp_path: Path) -> None:
    answer = Reply(200, b"{}", {"Content-Type": "Application/X ; charset=utf-8"})
    with archive_server(lambda _asked: answer) as served:
        reference = f"127.0.0.1:{served.port}/os" + (f"@{digest_of(b'{}')}" if pinned else "")
        access = Access(quiet, unsecure=True, root=str(tmp_path))
        assert ask(RegistryImage(reference, f"docker://{reference}"), access).media_type == media_type
