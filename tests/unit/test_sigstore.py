"""Signatures as documents: what cosign writes is read, and everything else is an error that says why."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bootc_live.formats.sigstore import Signature, parse_bundle, parse_simple_signing, pre_authentication_encoding

DIGEST = "sha256:" + "2" * 64
SIMPLE: dict[str, Any] = {
    "critical": {
        "identity": {"docker-reference": "registry.example/os"},
        "image": {"docker-manifest-digest": DIGEST},
        "type": "cosign container image signature",
    },
    "optional": None,
}
STATEMENT: dict[str, Any] = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"digest": {"sha256": "2" * 64}, "annotations": {}}],
    "predicateType": "https://sigstore.dev/cosign/sign/v1",
    "predicate": {},
}
TYPE = "application/vnd.in-toto+json"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bundle(statement: object = STATEMENT, **changes: object) -> bytes:
    payload = encoded(json.dumps(statement).encode())
    document = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "x"}},
        "dsseEnvelope": {"payload": payload, "payloadType": TYPE, "signatures": [{"sig": encoded(b"sig")}]},
        **changes,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


def test_simple_signing() -> None:
    payload = json.dumps(SIMPLE).encode()
    found = parse_simple_signing(payload, encoded(b"sig"))
    assert found == Signature("simple signing", b"sig", payload, (DIGEST,), "registry.example/os")


def test_bundles() -> None:
    found = parse_bundle(bundle())
    assert (found.kind, found.value, found.digests, found.reference) == ("bundle", b"sig", (DIGEST,), None)
    assert found.signed == pre_authentication_encoding(TYPE, json.dumps(STATEMENT).encode())
    digest = {"algorithm": "SHA2_256", "digest": encoded(bytes(32))}
    message = {"messageDigest": digest, "signature": encoded(b"sig")}
    of_file = parse_bundle(bundle(dsseEnvelope=None, messageSignature=message))
    assert of_file == Signature("bundle of a file", b"sig", None, (f"sha256:{'0' * 64}",))


def test_what_an_envelope_signs() -> None:
    """The example of the DSSE specification."""
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document))
    *above, last = path.split(".")
    inner = made
    for name in above:
        inner = inner[name]
    inner[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("critical", None, "'critical' is not an object"),
        ("critical.type", "other", "its type is 'other'"),
        ("critical.image", {}, "not a sha256"),
        ("critical.image", {"docker-manifest-digest": "md5:ab"}, "not a sha256"),
        ("critical.identity", {}, "no docker-reference"),
        ("Critical", {}, "upper and lower case"),
    ],
)
def test_simple_signing_that_is_none(path: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_simple_signing(json.dumps(changed(SIMPLE, path, value)).encode(), encoded(b"sig"))


@pytest.mark.parametrize("signature", ["", "!", "YQ"])
def test_signatures_that_are_no_base64(signature: str) -> None:
    if signature:
        with pytest.raises(ValueError, match="base64"):
            parse_simple_signing(json.dumps(SIMPLE).encode(), signature)
    else:
        assert parse_simple_signing(json.dumps(SIMPLE).encode(), signature).value == b""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "Expecting"),
        (b"[]", "not an object"),
        (bundle(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"), "version 0.3"),
        (bundle(verificationMaterial={"certificate": {"rawBytes": ""}}), "keyless"),
        (bundle(verificationMaterial={"x509CertificateChain": {}}), "keyless"),
        (bundle(dsseEnvelope=None), "not exactly one of"),
        (bundle(messageSignature={}), "not exactly one of"),
        (bundle(dsseEnvelope={"payloadType": "text/plain"}), "no in-toto statement"),
        (bundle(dsseEnvelope={"payloadType": TYPE, "payload": "e30=", "signatures": []}), "exactly one signature"),
        (
            bundle(dsseEnvelope={"payloadType": TYPE, "payload": "e30=", "signatures": [{}, {}]}),
            "exactly one signature",
        ),
        (bundle(changed(STATEMENT, "_type", "x")), "no in-toto statement"),
        (bundle(changed(STATEMENT, "predicateType", "https://slsa.dev/provenance/v1")), "no signature of an image"),
        (bundle(changed(STATEMENT, "subject", [])), "no subject"),
        (
            bundle(changed(STATEMENT, "subject", [{"digest": {"sha1": "2" * 40}}])),
            "names no digest by sha256 or sha512",
        ),
        (bundle(changed(STATEMENT, "subject", [{"digest": {}}])), "names no digest by sha256 or sha512"),
        (bundle(changed(STATEMENT, "subject", [{"digest": {"sha256": "x"}}])), "not a sha256"),
        (bundle(dsseEnvelope=None, messageSignature={"messageDigest": {"algorithm": "MD5"}}), "algorithm 'MD5'"),
        (bundle().replace(b'"dsseEnvelope"', b'"DSSEEnvelope": 1, "dsseEnvelope"'), "upper and lower case"),
        (bundle().replace(b'"mediaType"', b'"mediaType": 1, "mediaType"'), "name twice"),
    ],
)
def test_bundles_that_are_none(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_bundle(content)


def test_digests_of_other_algorithms_count_for_nothing() -> None:
    subject = [{"digest": {"sha1": "2" * 40, "sha512": "3" * 128}}]
    assert parse_bundle(bundle(changed(STATEMENT, "subject", subject))).digests == (f"sha512:{'3' * 128}",)
