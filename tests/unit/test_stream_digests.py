"""Digests of archives that are read as streams: pins, and what is of another algorithm than sha256."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.image.resolve import Wanted
from tests.lib.acquiring import acquired, contents, streamed
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Image, Index, Layer, compress, sha256
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NOISE = random.Random(13)
TARS = [layer(file("one", NOISE.randbytes(700))), layer(file("two", NOISE.randbytes(9000)))]
NOUGHT = "sha256:" + "0" * 64


def image(architecture: str = HERE) -> Image:
    return Image([Layer(tar) for tar in TARS], None, architecture)


def sha512(data: bytes) -> str:
    return f"sha512:{hashlib.sha512(data).hexdigest()}"


def test_pin(tmp_path: Path) -> None:
    members = oci_members(Index([image(), image("s390x")], "latest"))
    archive = tar_of(members)
    _, made = streamed(archive, tmp_path / "data")
    digest = made.resolved.manifest_digest
    assert digest is not None
    written = members["index.json"]
    assert isinstance(written, bytes)
    index = json.loads(written)["manifests"][0]["digest"]
    content = members[f"blobs/sha256/{digest.partition(':')[2]}"]
    assert isinstance(content, bytes)
    for pin in (digest, index, sha512(content)):
        assert streamed(archive, tmp_path / "data", None, Wanted(pin=pin))[0] == TARS
    for pin in (NOUGHT, sha256(TARS[0]), made.resolved.manifest.config.digest):
        with pytest.raises(ImageError, match=f"bootc.live.digest= allows only {pin}"):
            streamed(archive, tmp_path / "data", None, Wanted(pin=pin))
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["file", "stream"])
def test_pin_of_a_docker_archive_is_that_of_its_config(how: str, tmp_path: Path) -> None:
    archive = tar_of(docker_members("save", Saved(TARS)))
    digest = sha256(Saved(TARS).config)
    path = tmp_path / "a.tar"
    path.write_bytes(archive if how == "file" else gzip.compress(archive))
    assert contents(acquired(tmp_path / "data", str(path), pin=digest)) == TARS
    (tmp_path / "data").unlink()
    with pytest.raises(ImageError, match=f"has the digest {digest}, but bootc.live.digest= allows only {NOUGHT}"):
        acquired(tmp_path / "data", str(path), pin=NOUGHT)
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]


@pytest.mark.parametrize("archived", ["oci", "docker"])
@pytest.mark.parametrize("backwards", [False, True])
def test_longer_diff_ids(archived: str, backwards: bool, tmp_path: Path) -> None:
    """The image-spec lets a diffID be of any registered algorithm; layers may come before anybody knows which."""
    diff_ids = [sha512(TARS[0]), sha256(TARS[1])]
    members = docker_members("save", Saved(TARS, diff_ids=diff_ids))
    if archived == "oci":
        members = oci_members(Image([Layer(TARS[0], diff_id=diff_ids[0]), Layer(TARS[1])], architecture=HERE))
    pairs = list(members.items())
    assert streamed(tar_of(pairs[::-1] if backwards else pairs), tmp_path / "data")[0] == TARS


def test_blobs_with_longer_digests(tmp_path: Path) -> None:
    blob = compress(TARS[0], "gzip")
    for digest, right in ((sha512(blob), True), ("sha512:" + "0" * 128, False)):
        members = oci_members(Image([Layer(TARS[0], digest=digest), Layer(TARS[1])], architecture=HERE))
        for pairs in (list(members.items()), list(members.items())[::-1]):
            if right:
                assert streamed(tar_of(pairs), tmp_path / "data")[0] == TARS
            else:
                with pytest.raises(ImageError, match="0" * 128):
                    streamed(tar_of(pairs), tmp_path / "data")
