"""Parse signatures of images as cosign makes them: simple signing, and bundles of sigstore (version 0.3).

Nothing is verified here. Follow the "container signature formats" of containers/image (simple signing), the DSSE
envelope specification 1.0, the in-toto Statement 1, and sigstore's ``sigstore_bundle.proto``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any

from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import check_digest

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE_PREFIX = "application/vnd.dev.sigstore.bundle"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
# Of one document. Real ones have less than 20 KiB, with a certificate and a log entry.
LARGEST_SIGNATURE = 256 * 1024

_BUNDLES = ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3")
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_SIMPLE_TYPES = ("cosign container image signature", "atomic container signature")
_ALGORITHMS = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
_FIELDS = frozenset(
    {
        *("critical", "identity", "docker-reference", "image", "docker-manifest-digest", "type"),
        *("mediaType", "verificationMaterial", "publicKey", "certificate", "x509CertificateChain"),
        *("dsseEnvelope", "payload", "payloadType", "signatures", "sig"),
        *("messageSignature", "messageDigest", "algorithm", "digest", "signature"),
        *("_type", "subject", "predicateType", "base64Signature"),
    }
)


@dataclass(frozen=True)
class Signature:
    """One signature: ``value`` signs the bytes ``signed``.

    ``digests`` are those that the signed bytes name, as ``algorithm:hex``; ``reference`` is the repository or image
    that they name, None if they name none. For a signature of a file, ``signed`` is None: the file itself is signed. It
    names the file's digest, or none.
    """

    kind: str
    value: bytes
    signed: bytes | None
    digests: tuple[str, ...]
    reference: str | None = None


def parse_simple_signing(payload: bytes, signature: str) -> Signature:
    """Parse a simple-signing document and its detached signature in base64; raise ValueError."""
    critical = _object(_object(read_json(payload, _FIELDS), None), "critical")
    kind = critical.get("type")
    if kind not in _SIMPLE_TYPES:
        raise ValueError(f"it is no signature of an image, its type is {kind!r}")
    digest = check_digest(_object(critical, "image").get("docker-manifest-digest"))
    reference = _object(critical, "identity").get("docker-reference")
    if not isinstance(reference, str) or not reference:
        raise ValueError("it names no docker-reference")
    return Signature("simple signing", _decode(signature), payload, (digest,), reference)


def parse_file_signature(text: bytes) -> Signature:
    """Parse the signature of a file in base64 (``cosign sign-blob --output-signature``); raise ValueError."""
    value = _decode("".join(text.decode("ascii", "replace").split()))
    if not value:
        raise ValueError("it is empty")
    return Signature("signature of a file", value, None, ())


def parse_bundle(content: bytes) -> Signature:
    """Parse a bundle that a key signed; raise ValueError, also for one with a certificate instead of a key."""
    bundle = _object(read_json(content, _FIELDS), None)
    if "base64Signature" in bundle:
        raise ValueError("it is a bundle in the old form of cosign 2: write it with --new-bundle-format")
    if bundle.get("mediaType") not in _BUNDLES:
        raise ValueError(f"it is no sigstore bundle of version 0.3, its type is {bundle.get('mediaType')!r}")
    material = _object(bundle, "verificationMaterial")
    if "certificate" in material or "x509CertificateChain" in material:
        raise ValueError("it is a keyless signature: certificates cannot be checked here, only keys")
    envelope, message = bundle.get("dsseEnvelope"), bundle.get("messageSignature")
    if (envelope is None) == (message is None):
        raise ValueError("it has not exactly one of dsseEnvelope and messageSignature")
    return _parse_message(_object(message, None)) if envelope is None else _parse_envelope(_object(envelope, None))


def pre_authentication_encoding(kind: str, payload: bytes) -> bytes:
    """Return what a DSSE signature signs (DSSE, protocol.md, "PAE")."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _parse_envelope(envelope: dict[str, Any]) -> Signature:
    kind, signatures = envelope.get("payloadType"), envelope.get("signatures")
    if kind != _PAYLOAD_TYPE:
        raise ValueError(f"its payload is no in-toto statement, but {kind!r}")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise ValueError("it has not exactly one signature")
    payload = _decode(envelope.get("payload"))
    statement = _object(read_json(payload, _FIELDS), None)
    if statement.get("_type") not in _STATEMENTS:
        raise ValueError(f"its payload is no in-toto statement, but {statement.get('_type')!r}")
    if statement.get("predicateType") != SIGN_PREDICATE:
        raise ValueError(f"it is no signature of an image, but {statement.get('predicateType')!r}")
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise ValueError("it names no subject")
    digests = [
        check_digest(f"{algorithm}:{encoded}")
        for subject in subjects
        for algorithm, encoded in _object(_object(subject, None), "digest").items()
        if algorithm in ("sha256", "sha512")
    ]
    if not digests:
        raise ValueError("it names no digest by sha256 or sha512")
    signed = pre_authentication_encoding(kind, payload)
    return Signature("bundle", _decode(_object(signatures[0], None).get("sig")), signed, tuple(digests))


def _parse_message(message: dict[str, Any]) -> Signature:
    digest = _object(message, "messageDigest")
    if not digest:
        raise ValueError("it names no digest, as with Ed25519 keys: sign files with an ECDSA or RSA key")
    algorithm = _ALGORITHMS.get(str(digest.get("algorithm")))
    if algorithm is None:
        raise ValueError(f"its digest has the algorithm {digest.get('algorithm')!r}")
    value = _decode(digest.get("digest"))
    if len(value) != hashlib.new(algorithm).digest_size:
        raise ValueError(f"its {algorithm} digest has {len(value)} bytes")
    return Signature("bundle of a file", _decode(message.get("signature")), None, (f"{algorithm}:{value.hex()}",))


def _object(data: Any, name: str | None) -> dict[str, Any]:
    value = data if name is None else data.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{'it' if name is None else repr(name)} is not an object")
    return value


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("a value in base64 is missing")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a value is not in base64") from error
