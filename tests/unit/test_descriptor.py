"""Content descriptors and digests (image-spec, descriptor.md)."""

from __future__ import annotations

import pytest

from bootc_live.formats.oci.descriptor import Descriptor, Platform, check_digest, parse_descriptor

SHA256 = "sha256:" + "ab" * 32
SHA512 = "sha512:" + "cd" * 64


def test_whole() -> None:
    data = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": SHA256,
        "size": 7,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
        "annotations": {"a": "b"},
        "unknown": [],
    }
    found = parse_descriptor(data)
    assert found == Descriptor(
        "application/vnd.oci.image.manifest.v1+json", SHA256, 7, Platform("linux", "arm", "v7"), {"a": "b"}
    )
    assert (found.algorithm, found.encoded) == ("sha256", "ab" * 32)
    assert str(found.platform) == "linux/arm/v7"
    assert hash(found) == hash(parse_descriptor(data))


def test_least() -> None:
    found = parse_descriptor({"digest": SHA512, "size": 0})
    assert found == Descriptor("", SHA512, 0)
    assert found.platform is None


@pytest.mark.parametrize("digest", [SHA256, SHA512])
def test_good_digests(digest: str) -> None:
    assert check_digest(digest) == digest


@pytest.mark.parametrize(
    "digest",
    [
        None,
        7,
        "",
        "sha256:",
        "ab" * 32,
        "sha256:" + "AB" * 32,
        "sha256:" + "ab" * 31,
        "sha256:" + "ab" * 33,
        "sha512:" + "ab" * 32,
        "sha384:" + "ab" * 48,
        "md5:" + "ab" * 16,
        SHA256 + "\n",
        " " + SHA256,
        "sha256:../../" + "ab" * 29,
    ],
)
def test_bad_digests(digest: object) -> None:
    with pytest.raises(ValueError, match="not a sha256 or sha512 digest"):
        check_digest(digest)
    with pytest.raises(ValueError, match="not a sha256 or sha512 digest"):
        parse_descriptor({"digest": digest, "size": 1})


@pytest.mark.parametrize("size", [None, -1, "7", 7.0, True, [], 1e3, 2**63, 10**400])
def test_bad_sizes(size: object) -> None:
    with pytest.raises(ValueError, match="has a size"):
        parse_descriptor({"digest": SHA256, "size": size})


@pytest.mark.parametrize("data", [None, [], "x", 7, [SHA256]])
def test_not_an_object(data: object) -> None:
    with pytest.raises(ValueError, match="not an object"):
        parse_descriptor(data)


def test_bad_annotations() -> None:
    with pytest.raises(ValueError, match="annotations"):
        parse_descriptor({"digest": SHA256, "size": 1, "annotations": ["a"]})


@pytest.mark.parametrize("platform", [None, "linux/amd64", [], 7])
def test_platforms_of_another_shape_are_none(platform: object) -> None:
    assert parse_descriptor({"digest": SHA256, "size": 1, "platform": platform}).platform is None
