"""Key pairs of openssl, and what cosign would write with them."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Final

from bootc_live.system.signatures import PublicKey

KINDS: Final = {
    "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ed25519": ("ED25519",),
}


class Key:
    """A key pair in a directory."""

    def __init__(self, where: Path, kind: str = "p256") -> None:
        self.private = where / f"{kind}.pem"
        make = ["openssl", "genpkey", "-algorithm", *KINDS[kind], "-out", str(self.private)]
        subprocess.run(make, check=True, capture_output=True)
        shown = subprocess.run(["openssl", "pkey", "-in", self.private, "-pubout"], check=True, capture_output=True)
        self.public = PublicKey(shown.stdout, str(where / f"{kind}.pub"))

    def sign(self, content: bytes, algorithm: str = "sha256") -> str:
        """The signature of a file, as cosign writes it."""
        command = ["openssl", "dgst", f"-{algorithm}", "-sign", str(self.private)]
        return base64.b64encode(subprocess.run(command, input=content, check=True, capture_output=True).stdout).decode()

    def bundle(self, content: bytes, algorithm: str = "sha256", **message: object) -> bytes:
        """The bundle of a file; `message` replaces what it says."""
        digest = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
        named = {"algorithm": algorithm.upper().replace("SHA", "SHA2_"), "digest": digest}
        document = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {"messageDigest": named, "signature": self.sign(content, algorithm), **message},
        }
        return json.dumps(document).encode()

    def simple(self, digest: str, reference: str) -> tuple[bytes, str]:
        """The payload that names an image, and its signature."""
        critical = {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        }
        payload = json.dumps({"critical": critical, "optional": None}).encode()
        return payload, self.sign(payload)
