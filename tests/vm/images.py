"""Registries that hold the images of vm/out: filled once for each content of an archive, then served from there."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.registry import Registry, registry
from tests.vm.builder import in_builder
from vmkit.paths import OUT
from vmkit.stale import fingerprint, locked

_KEPT: Final = OUT / "registries"
_KERNEL: Final = 2
"""The layer of the live image that has its kernel and initramfs, counted from 0 (vm/image/Containerfile)."""


@dataclass(frozen=True)
class Filled:
    """What a registry keeps, for `registry(…, storage=…)`, and the digests of the manifests by tag."""

    storage: Path
    digests: Mapping[str, str]

    @property
    def key(self) -> Path:
        """The public key that signed one of them, and the archive."""
        return self.storage / "cosign.pub"

    @property
    def bundle(self) -> Path:
        """The signature of the archive as a file."""
        return self.storage / "file.sigstore.json"

    def copy(self, directory: Path) -> Path:
        """Return a copy of the storage in `directory`, for a registry that is changed."""
        return Path(shutil.copytree(self.storage, directory / "storage"))


Stacked = Mapping[str, tuple[str, Sequence[bytes]]]


def filled(
    archive: str,
    repository: str,
    tags: Mapping[str, str],
    stacked: Stacked | None = None,
    signed: Sequence[str] = (),
    bare: Mapping[str, str] | None = None,
) -> Filled:
    """Return a registry's files with images of `archive`, a name below vm/out, as `repository`.

    `tags` are names in the archive by tag; `bare` has more tags, for one of these without its kernel and initramfs,
    which only those need who boot by them, and `stacked` some for any of these with layers on top. Of the tags
    `signed`, the first and the file are signed with a new key, the second with another one; the third has the first
    one's signature. Nothing may be pushed there: others may serve the same files.
    """
    _KEPT.mkdir(parents=True, exist_ok=True)
    more, less = stacked or {}, bare or {}
    inputs = [fingerprint([OUT / archive, Path(__file__).with_name("sign")]), sorted(more.items()), signed, less]
    key = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    kept = _KEPT / f"{archive}-{key}"
    with locked(_KEPT / f"{archive}.lock"):
        if not kept.exists():
            for old in _KEPT.glob(f"{archive}-*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=_KEPT) as name:
                with registry(Path(name) / "registry") as running:
                    digests = {
                        tag: running.push(f"oci-archive:{OUT / archive}:{named}", f"{repository}:{tag}")
                        for tag, named in tags.items()
                    }
                    for tag, whole in less.items():
                        digests[tag] = _without_kernel(running, repository, digests[whole], tag)
                    for tag, (lower, layers) in more.items():
                        digests[tag] = stack(running, repository, digests[lower], layers, tag)
                    if signed:
                        images = [f"{running.host}/{repository}@{digests[tag]}" for tag in signed]
                        in_builder("tests/vm/sign", running.storage, OUT / archive, *images)
                (running.storage / "digests.json").write_text(json.dumps(digests))
                running.storage.rename(kept)
    return Filled(kept, json.loads((kept / "digests.json").read_text()))


def stack(running: Registry, repository: str, digest: str, layers: Sequence[bytes], tag: str) -> str:
    """Put layers on top of an image that a registry has; return the digest of what comes of it."""
    lower, architecture = _layers(running, digest)
    return _put(running, repository, Image([*lower, *map(Layer, layers)], architecture=architecture), tag)


def _without_kernel(running: Registry, repository: str, digest: str, tag: str) -> str:
    layers, architecture = _layers(running, digest)
    image = Image([*layers[:_KERNEL], *layers[_KERNEL + 1 :]], architecture=architecture)
    return _put(running, repository, image, tag)


def _layers(running: Registry, digest: str) -> tuple[list[Layer], str]:
    """Return the layers of an image that a registry has, and its architecture."""
    manifest = json.loads(running.blob(digest).read_bytes())
    config = json.loads(running.blob(manifest["config"]["digest"]).read_bytes())
    layers = [
        Layer(blob=running.blob(layer["digest"]), diff_id=diff_id, media_type=layer["mediaType"])
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ]
    return layers, config["architecture"]


def _put(running: Registry, repository: str, image: Image, tag: str) -> str:
    with tempfile.TemporaryDirectory(prefix="layout-", dir=running.storage.parent) as name:
        return running.put(write_layout(Path(name), image), repository, tag)
