"""Registries that hold the images of vm/out: filled once for each content of an archive, then served from there."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.registry import registry
from vmkit.paths import OUT
from vmkit.stale import fingerprint, locked

_KEPT: Final = OUT / "registries"


@dataclass(frozen=True)
class Filled:
    """What a registry keeps, for `registry(…, storage=…)`, and the digests of the manifests by tag."""

    storage: Path
    digests: Mapping[str, str]

    def copy(self, directory: Path) -> Path:
        """Return a copy of the storage in `directory`, for a registry that is changed."""
        return Path(shutil.copytree(self.storage, directory / "storage"))


def filled(archive: str, repository: str, tags: Mapping[str, str]) -> Filled:
    """Return a registry's files with images of `archive`, a name below vm/out, as `repository`.

    `tags` are names in the archive by tag. Nothing may be pushed there: others may serve the same files.
    """
    _KEPT.mkdir(parents=True, exist_ok=True)
    key = fingerprint([OUT / archive])[:16]
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
                (running.storage / "digests.json").write_text(json.dumps(digests))
                running.storage.rename(kept)
    return Filled(kept, json.loads((kept / "digests.json").read_text()))
