"""Sign images with the real cosign: version 2 of Debian 13, version 3 of the release after it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPO: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 300
# Options of openssl-genpkey(1) for each kind of key.
KINDS: Final = {
    "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
    "ed25519": ("ED25519",),
    "rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
}


@dataclass(frozen=True)
class Key:
    """A key pair: cosign's private key, and the public one."""

    private: Path
    public: Path


@dataclass(frozen=True)
class Cosign:
    """One version of cosign; `work` is a directory of its own, for its home."""

    program: Path
    version: int
    work: Path

    def run(self, *argv: str | Path) -> str:
        """Run it without any service; raise AssertionError with what it said."""
        environment = {"PATH": os.defpath, "HOME": str(self.work), "COSIGN_PASSWORD": ""}
        command = [str(word) for word in (self.program, *argv)]
        done = subprocess.run(
            command, cwd=self.work, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def key(self, name: str, kind: str = "p256") -> Key:
        """Make a key pair of a kind; cosign imports no ECDSA keys of openssl's form."""
        if kind == "p256":
            self.run("generate-key-pair", "--output-key-prefix", name)
            return Key(self.work / f"{name}.key", self.work / f"{name}.pub")
        plain = self.work / f"{name}.pem"
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", *KINDS[kind], "-out", plain], check=True, capture_output=True
        )
        self.run("import-key-pair", "--key", plain, "--output-key-prefix", name, "--yes")
        return Key(self.work / f"{name}.key", self.work / f"{name}.pub")

    def sign(self, image: str, key: Key, *options: str, bundle: bool | None = None) -> None:
        """Sign `HOST:PORT/NAME@DIGEST`, in the format that is usual for the version, or as a bundle or not."""
        argv = ["sign", "--tlog-upload=false", "--allow-http-registry", "--yes", "--key", str(key.private)]
        if self.version >= 3:
            argv.append("--use-signing-config=false")
        if bundle is not None:
            argv.append(f"--new-bundle-format={str(bundle).lower()}")
        self.run(*argv, *options, image)

    def sign_file(self, path: Path, key: Key, *options: str) -> None:
        """Sign a file; options say what is written."""
        argv = ["sign-blob", "--tlog-upload=false", "--yes", "--key", str(key.private)]
        if self.version >= 3:
            argv.append("--use-signing-config=false")
        self.run(*argv, *options, path)

    def save(self, image: str, directory: Path) -> None:
        """Save an image with its signatures as a layout."""
        self.run("save", "--allow-http-registry", "--dir", directory, image)


def cosigns(work: Path) -> list[Cosign]:
    """Return the versions that are there: that of the `PATH`, and that of the forky root."""
    found = [shutil.which("cosign"), str(REPO / "vm/out/roots/forky/usr/bin/cosign")]
    made = []
    for version, program in enumerate(found, 2):
        if program is not None and Path(program).exists():
            (work / f"cosign{version}").mkdir()
            made.append(Cosign(Path(program), version, work / f"cosign{version}"))
    return made


def policy(requirements: Sequence[object], **scopes: object) -> str:
    """Return a policy with this default and these scopes of registries, a name each with `__` for `/`."""
    docker = {name.replace("__", "/"): each for name, each in scopes.items()}
    return json.dumps({"default": requirements, "transports": {"docker": docker}})
