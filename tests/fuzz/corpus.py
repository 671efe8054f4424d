"""The inputs of a target, kept in one archive: a few hundred small files are a burden in a repository."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
# The earliest that a zip can say: the same inputs give the same file.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def load(name: str) -> list[bytes]:
    """Return the inputs of a target, none where it has no corpus yet."""
    path = CORPUS / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(member) for member in archive.namelist()]


def store(name: str, inputs: Iterable[bytes]) -> None:
    """Replace the inputs of a target."""
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{name}.zip", "w") as archive:
        for title, data in sorted({_title(data): data for data in inputs}.items()):
            archive.writestr(zipfile.ZipInfo(title, _EPOCH), data, zipfile.ZIP_DEFLATED, 9)


def write(directory: Path, inputs: Iterable[bytes]) -> None:
    """Write inputs into a directory, a file each."""
    directory.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (directory / _title(data)).write_bytes(data)


def read(directory: Path) -> list[bytes]:
    """Return the inputs of a directory."""
    return [path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()]


def _title(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
