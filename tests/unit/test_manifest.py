"""Manifests, indexes and configs of both families, and every wrong shape as one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.image.manifest import is_index, parse_config, parse_index, parse_manifest
from bootc_live.source.descriptor import Platform
from tests.lib.oci_writer import MEDIA_TYPES, Flavour

DIGEST = "sha256:" + "12" * 32
OTHER = "sha256:" + "34" * 32
FLAVOURS: tuple[Flavour, ...] = ("oci", "docker")

BAD_JSON = (b"", b"{", b"\xff\xfe", b"nul", b"'x'", b"[" * 100_000, b'{"a":' * 100_000)
NO_OBJECTS = (b"[]", b"null", b"7", b'"x"')


def descriptor(media_type: str = "", digest: str = DIGEST, size: int = 7, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def manifest(flavour: Flavour = "oci", **changes: Any) -> bytes:
    types = MEDIA_TYPES[flavour]
    data = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": descriptor(types["config"]),
        "layers": [descriptor(types["gzip"]), descriptor(types["none"], OTHER)],
    }
    return json.dumps({name: value for name, value in (data | changes).items() if value is not ...}).encode()


def config(**changes: Any) -> bytes:
    data = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "rootfs": {"type": "layers", "diff_ids": [DIGEST, OTHER]},
    }
    return json.dumps({name: value for name, value in (data | changes).items() if value is not ...}).encode()


def message(parse: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        parse()
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_manifest(flavour: Flavour) -> None:
    found = parse_manifest(manifest(flavour), "it")
    assert found.config.media_type == MEDIA_TYPES[flavour]["config"]
    assert [layer.digest for layer in found.layers] == [DIGEST, OTHER]
    assert [layer.media_type for layer in found.layers] == [MEDIA_TYPES[flavour]["gzip"], MEDIA_TYPES[flavour]["none"]]


def test_manifest_without_media_types() -> None:
    found = parse_manifest(manifest(mediaType=..., config={"digest": DIGEST, "size": 1}), "it")
    assert found.config.media_type == ""


@pytest.mark.parametrize("content", BAD_JSON, ids=range(len(BAD_JSON)))
def test_not_json(content: bytes) -> None:
    assert "it is not JSON" in message(lambda: parse_manifest(content, "it"))
    assert "it is not JSON" in message(lambda: is_index(content, "", "it"))
    assert "it is not JSON" in message(lambda: parse_index(content, "it"))
    assert "it is not JSON" in message(lambda: parse_config(content, 1, "it"))


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_not_an_object(content: bytes) -> None:
    assert "it is not a JSON object" in message(lambda: parse_manifest(content, "it"))
    assert "it is not a JSON object" in message(lambda: is_index(content, "", "it"))
    assert "it is not a JSON object" in message(lambda: parse_index(content, "it"))
    assert "it is not a JSON object" in message(lambda: parse_config(content, 1, "it"))


@pytest.mark.parametrize("version", [..., 1, 3, "2", None, [2]])
def test_schema_version(version: object) -> None:
    assert "it must be 2" in message(lambda: parse_manifest(manifest(schemaVersion=version), "it"))


@pytest.mark.parametrize("layers", [..., None, [], {}, "x", 7])
def test_no_layers(layers: object) -> None:
    assert message(lambda: parse_manifest(manifest(layers=layers), "it")) == "it has no layers"


@pytest.mark.parametrize(
    "bad",
    [None, [], "x", {}, {"digest": DIGEST}, {"size": 1}, descriptor(digest="sha256:1"), descriptor(size=-1)],
    ids=str,
)
def test_bad_descriptors(bad: object) -> None:
    assert "it is damaged: " in message(lambda: parse_manifest(manifest(config=bad), "it"))
    assert "it is damaged: " in message(lambda: parse_manifest(manifest(layers=[descriptor(), bad]), "it"))
    index = json.dumps({"manifests": [bad]}).encode()
    assert "it is damaged: " in message(lambda: parse_index(index, "it"))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_index(flavour: Flavour) -> None:
    platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm", "variant": "v7"}]
    entries = [descriptor(MEDIA_TYPES[flavour]["manifest"], platform=platform) for platform in platforms]
    content = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPES[flavour]["index"], "manifests": entries})
    found = parse_index(content.encode(), "it")
    assert [entry.platform for entry in found] == [Platform("linux", "amd64"), Platform("linux", "arm", "v7")]
    assert is_index(content.encode(), "", "it")


@pytest.mark.parametrize("entries", [None, {}, "x", 7])
def test_index_without_list(entries: object) -> None:
    assert "no list of manifests" in message(lambda: parse_index(json.dumps({"manifests": entries}).encode(), "it"))


@pytest.mark.parametrize(
    ("data", "media_type", "index"),
    [
        ({"mediaType": MEDIA_TYPES["oci"]["index"]}, "", True),
        ({"mediaType": MEDIA_TYPES["docker"]["index"]}, "", True),
        ({"mediaType": MEDIA_TYPES["oci"]["manifest"]}, MEDIA_TYPES["oci"]["index"], False),
        ({"mediaType": MEDIA_TYPES["oci"]["index"]}, MEDIA_TYPES["oci"]["manifest"], True),
        ({}, MEDIA_TYPES["oci"]["index"], True),
        ({}, MEDIA_TYPES["docker"]["index"], True),
        ({}, MEDIA_TYPES["oci"]["manifest"], False),
        ({}, "application/json", False),
        ({"manifests": []}, "application/json", True),
        ({"manifests": [], "layers": []}, "application/json", False),
        ({"layers": []}, "", False),
        ({"mediaType": ""}, MEDIA_TYPES["oci"]["index"], True),
        ({"mediaType": 7, "manifests": []}, "", True),
    ],
)
def test_telling_an_index(data: dict[str, object], media_type: str, index: bool) -> None:
    assert is_index(json.dumps(data).encode(), media_type, "it") is index


def test_config() -> None:
    found = parse_config(config(), 2, "it")
    assert found.platform == Platform("linux", "arm64", "v8")
    assert found.diff_ids == (DIGEST, OTHER)


def test_config_without_platform() -> None:
    assert parse_config(config(os=..., architecture=..., variant=...), 2, "it").platform == Platform("", "")


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_config_with_another_number_of_layers(layers: int) -> None:
    assert f"one diffID for each of the {layers} layers" in message(lambda: parse_config(config(), layers, "it"))


@pytest.mark.parametrize("rootfs", [..., None, [], "x", {}, {"diff_ids": None}, {"diff_ids": {}}, {"diff_ids": "xx"}])
def test_config_without_diff_ids(rootfs: object) -> None:
    assert "does not list one diffID" in message(lambda: parse_config(config(rootfs=rootfs), 2, "it"))


@pytest.mark.parametrize("diff_id", [None, 7, "", "sha256:1", "ab" * 32, DIGEST.upper()])
def test_config_with_a_bad_diff_id(diff_id: object) -> None:
    changed = config(rootfs={"diff_ids": [DIGEST, diff_id]})
    assert "it has a bad diffID" in message(lambda: parse_config(changed, 2, "it"))
