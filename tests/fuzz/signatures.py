"""What decides who made an image: signatures, policies, and the keys that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.policy import Kind, Policy, Requirement, parse_policy
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.reference import Reference, parse_reference
from bootc_live.formats.sigstore import Signature, parse_bundle, parse_file_signature, parse_simple_signing
from bootc_live.image import trust
from bootc_live.system.signatures import PublicKey

_KEY: Final = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQkWvuIB/9ujjxy1ppUUwGYTt5r8t
TfZ5kqQTLI1Z0VpG1JwP3NdqTgWYMOehZnURDAN9FmTDxD70u+ZNkiVcA==
-----END PUBLIC KEY-----
"""
_IMAGES: Final = tuple(
    parse_reference(text)
    for text in ("h/os", "h/team/os:1", f"h:5/os@sha256:{'a' * 64}", "os", "a.h.example/os", "[fd00::1]:443/os")
)
_DIGEST: Final = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")
_REFUSED: Final = "refused"


def documents(data: bytes) -> None:
    """Read a document as each of the kinds that there are, and again in other words."""
    readers: tuple[Callable[[bytes], object], ...] = (_bundle, _simple, _decisions)
    outcomes = [_outcome(reader, data) for reader in readers]
    _outcome(_file, data)
    assert sum(outcome != _REFUSED for outcome in outcomes) <= 1, "two readings of one document"
    try:
        again = json.dumps(read_json(data, {"-"}), allow_nan=False, indent=1).encode()
    except ValueError:
        return
    assert [_outcome(reader, again) for reader in readers] == outcomes, "blanks and escapes change what it says"


def keys(data: bytes) -> None:
    """Read a public key; it verifies nothing that it did not sign."""
    key = PublicKey(data, "it")
    key.check()
    assert key.fingerprint == PublicKey(data, "again").fingerprint
    assert not key.verifies(data[:128], data)
    # Refused for Ed25519.
    assert not key.verifies_digest(data[:128], f"sha256:{'0' * 64}")


def _bundle(data: bytes) -> object:
    return _said(parse_bundle(data))


def _simple(data: bytes) -> object:
    return _said(parse_simple_signing(data, "QUFB"))


def _file(data: bytes) -> object:
    return _said(parse_file_signature(data))


def _said(found: Signature) -> Signature:
    """Return what a signature says but for the bytes that it signs, which other words change."""
    assert all(_DIGEST.fullmatch(digest) for digest in found.digests)
    assert found.signed is None or found.digests
    for identity in ("matchExact", "matchRepository", "matchRepoDigestOrExact"):
        wanted = Requirement(Kind.SIGNED, identity=identity)
        for image in _IMAGES:
            if found.reference is not None and trust._same_identity(found.reference, wanted, image):
                assert parse_reference(found.reference).canonical.repository == image.canonical.repository
    return found if found.kind != "simple signing" else replace(found, signed=b"")


def _decisions(data: bytes) -> object:
    """Return what a policy decides about a few images, however their names are written."""
    policy = parse_policy(data, "it", lambda _path: _KEY)
    for image in _IMAGES:
        host = image.registry.upper() if image.registry == image.registry.lower() else image.registry
        other = Reference(host, image.repository, image.tag, image.digest)
        assert policy.requirements(other) == policy.requirements(image), "another spelling is judged otherwise"
    return _judged(policy)


def _judged(policy: Policy) -> list[object]:
    found = [policy.requirements(image) for image in _IMAGES]
    found += [policy.requirements(None, docker=docker) for docker in (False, True)]
    for _, requirements in found:
        assert requirements, "a policy that asks for nothing"
        for each in requirements:
            assert (each.kind is Kind.SIGNED) == bool(each.keys)
            assert not each.fault or each.kind is Kind.REJECT
    return list(found)


def _outcome(reader: Callable[[bytes], object], content: bytes) -> object:
    try:
        return reader(content)
    except (ValueError, ConfigError):
        return _REFUSED
