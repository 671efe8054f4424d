"""Objects of a store that the disk has changed, when an image has the same files."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from bootc_live.formats.fsverity import verity_digest
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers
from bootc_live.rootfs.layouts.composefs.layout import store_root
from tests.lib.oci_writer import sha256
from tests.lib.storing import fetched, objects, stored, trusting
from tests.lib.tar_writer import file, layer

RANDOM = random.Random(2)


@pytest.mark.parametrize(
    ("content", "trusted", "written"),
    [
        pytest.param(None, True, True, id="gone"),
        pytest.param(b"", True, True, id="cut"),
        pytest.param(b"x" * 1000, True, False, id="changed: nothing but verify and fsck reads it"),
        pytest.param(b"x" * 1000, False, True, id="changed, of another system"),
    ],
)
def test_small_objects_of_a_layer_that_stays(
    content: bytes | None, trusted: bool, written: bool, tmp_path: Path
) -> None:
    """They are bytes of a recipe, and objects as well."""
    store, medium = tmp_path / "store", RANDOM.randbytes(1000)
    tar = layer(file("medium", medium))
    stored(store, (tar,))
    path = objects(store)[verity_digest(medium)]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    layers = trusting(store) if trusted else StoredLayers(str(store))
    image = fetched(tmp_path, layers, (tar,), gone=1)
    assert store_root(image, str(store), reused=layers).added == written
    assert path.read_bytes() == (medium if written else content)


@pytest.mark.parametrize("size", [1000, 20_000])
def test_what_is_fetched_replaces_what_is_damaged(size: int, tmp_path: Path) -> None:
    """Also if the running root has the same file in another layer."""
    store, content = tmp_path / "store", RANDOM.randbytes(size)
    stored(store, (layer(file("here", content)),))
    path = objects(store)[verity_digest(content)]
    path.chmod(0o600)
    path.write_bytes(bytes(size))
    layers = trusting(store)
    image = fetched(tmp_path, layers, (layer(file("there", content)),))
    assert store_root(image, str(store), reused=layers).added == 1
    assert objects(store)[verity_digest(content)].read_bytes() == content


def test_empty_layer_is_placed(tmp_path: Path) -> None:
    """It takes no byte of the layer before it."""
    store = tmp_path / "store"
    stored(store, (layer(file("base", b"base")), b""))
    data = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    assert trusting(store).place(sha256(b""), data, 2**20, 2**20) is not None
    assert os.fstat(data).st_size == 0
    os.close(data)
