"""Trees of the fuzzer's corpus before other readers: fsck.erofs finds no fault, the kernel shows what was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError
from tests.fuzz import corpus
from tests.fuzz.trees import image_of
from tests.lib.erofs_images import mounted, read_by_erofs_utils

PARTS = 4


def shown(where: Path) -> dict[bytes, bytes | None]:
    """Every path below a mounted root, with what can be read there, by the kernel."""
    top = os.fsencode(where)
    found: dict[bytes, bytes | None] = {b"": None}
    for directory, names, files in os.walk(top, onerror=_failed):
        for name in names + files:
            path = os.path.join(directory, name)
            found[path[len(top) + 1 :]] = _read(path)
    return found


def _read(path: bytes) -> bytes | None:
    if os.path.islink(path):
        return os.readlink(path)
    return Path(os.fsdecode(path)).read_bytes() if os.path.isfile(path) else None


def _failed(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("part", range(PARTS))
def test_other_readers(part: int, tmp_path: Path) -> None:
    path, used = tmp_path / "image", 0
    for number, data in enumerate(corpus.load("erofs")[part::PARTS]):
        try:
            image, wanted = image_of(data)
        except (ValueError, BootcLiveError):
            continue
        used += 1
        path.write_bytes(image)
        os.truncate(path, -(-len(image) // 4096) * 4096)
        read_by_erofs_utils(path)
        with mounted(path, tmp_path / str(number)) as where:
            assert shown(where) == wanted, data
    assert used > 10
