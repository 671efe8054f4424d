"""A store whose machine loses power: never a wrong object under a right name."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from bootc_live.formats.fsverity import verity_digest
from bootc_live.rootfs.layouts.composefs.check import referred_objects
from tests.lib.disks import loop, mounted, run
from tests.lib.storing import objects, stored
from tests.lib.tar_writer import directory, file, layer

FILES = {f"f{n}": random.Random(n).randbytes(300 + 40_000 * n) for n in range(6)}
TAR = layer(directory("./"), *(file(name, content) for name, content in FILES.items()))


def check(store: Path) -> int:
    """Every name in a store has its content, and every root its objects; returns how many names there are."""
    found = objects(store)
    for digest, path in found.items():
        assert verity_digest(path.read_bytes()) == digest, f"{path} has another content"
    roots = [path.stem for path in (store / "images").glob("*.erofs")]
    for digest in roots:
        assert referred_objects(str(store), digest) <= found.keys(), "a root without its objects"
    return len(found) + len(roots)


class _Disk:
    """A disk that loses power before and after each name is given, with its journal written."""

    def __init__(self, image: Path, mount_point: Path) -> None:
        self.image, self.mount_point = image, mount_point
        self.names: list[int] = []

    def cut(self) -> None:
        """Look at what would be there after a power cut now."""
        copy = self.image.with_suffix(".copy")
        run("cp", "--sparse=always", self.image, copy)
        with loop(copy) as device, mounted(device, self.mount_point) as where:
            self.names.append(check(where / "store"))
        copy.unlink()

    def rename(self, source: str, target: str) -> None:
        """As os.rename."""
        if "/layers/" in target or "/new." in target:
            # Whoever uses a link to a recipe checks whether it is right; nobody uses what is unfinished.
            _rename(source, target)
            return
        self.cut()
        _rename(source, target)
        if "/images/" in target:
            # The last one: the writer itself has to see to it.
            return
        # The file system writes its journal whenever it likes.
        for parent in (os.path.dirname(target), os.path.dirname(source)):
            fd = os.open(parent, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        self.cut()


_rename = os.rename


def test_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as made:
        made.truncate(64 * 2**20)
    run("mkfs.ext4", "-q", "-b", "4096", image)
    disk = _Disk(image, tmp_path / "again")
    with loop(image) as device, mounted(device, tmp_path / "mounted") as where:
        monkeypatch.setattr(os, "rename", disk.rename)
        root = stored(where / "store", (TAR,))
        monkeypatch.undo()
        # The caller may refer to it at once.
        disk.cut()
        # The recipe of the layer, and the metadata.
        assert check(where / "store") == len(FILES) + 2
    objects = len(FILES) + 1
    assert disk.names == [number // 2 for number in range(1, 2 * objects + 2)] + [objects + 1]
    assert len(root.objects) == objects


def test_what_a_power_cut_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "store" / "new.0123456789abcdef"
    left.mkdir(parents=True)
    (left / verity_digest(b"half")).write_bytes(b"ha")
    stored(tmp_path / "store", (TAR,))
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["images", "layers", "objects"]
    assert check(tmp_path / "store") == len(FILES) + 2
