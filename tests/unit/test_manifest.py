"""Manifests, indexes and configs of both families, and every wrong shape as one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.formats.oci.descriptor import Platform
from bootc_live.formats.oci.manifest import (
    MOST_LAYERS,
    is_artifact,
    is_index,
    parse_config,
    parse_index,
    parse_manifest,
)
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
    found = parse_manifest(manifest(flavour))
    assert found.config.media_type == MEDIA_TYPES[flavour]["config"]
    assert [layer.digest for layer in found.layers] == [DIGEST, OTHER]
    assert [layer.media_type for layer in found.layers] == [MEDIA_TYPES[flavour]["gzip"], MEDIA_TYPES[flavour]["none"]]


def test_manifest_without_media_types() -> None:
    found = parse_manifest(manifest(mediaType=..., config={"digest": DIGEST, "size": 1}))
    assert found.config.media_type == ""


@pytest.mark.parametrize("content", BAD_JSON, ids=range(len(BAD_JSON)))
def test_not_json(content: bytes) -> None:
    assert "it is not JSON" in message(lambda: parse_manifest(content))
    assert "it is not JSON" in message(lambda: is_index(content, ""))
    assert "it is not JSON" in message(lambda: parse_index(content))
    assert "it is not JSON" in message(lambda: parse_config(content, 1))


@pytest.mark.parametrize("content", NO_OBJECTS)
def test_not_an_object(content: bytes) -> None:
    assert "it is not a JSON object" in message(lambda: parse_manifest(content))
    assert "it is not a JSON object" in message(lambda: is_index(content, ""))
    assert "it is not a JSON object" in message(lambda: parse_index(content))
    assert "it is not a JSON object" in message(lambda: parse_config(content, 1))


@pytest.mark.parametrize("version", [..., 1, 3, "2", None, [2], 2.0, True])
def test_schema_version(version: object) -> None:
    assert "it must be 2" in message(lambda: parse_manifest(manifest(schemaVersion=version)))


@pytest.mark.parametrize("layers", [..., None, [], {}, "x", 7])
def test_no_layers(layers: object) -> None:
    assert message(lambda: parse_manifest(manifest(layers=layers))) == "it has no layers"


@pytest.mark.parametrize("count", [127, 500, 1024, 1025, 15_000])
def test_number_of_layers(count: int) -> None:
    content = manifest(layers=[descriptor(digest=f"sha256:{number:064x}") for number in range(count)])
    if count <= MOST_LAYERS:
        assert len(parse_manifest(content).layers) == count
        return
    said = message(lambda: parse_manifest(content))
    assert said == f"it has {count} layers, the limit is 1024"


@pytest.mark.parametrize(
    "bad",
    [None, [], "x", {}, {"digest": DIGEST}, {"size": 1}, descriptor(digest="sha256:1"), descriptor(size=-1)],
    ids=str,
)
def test_bad_descriptors(bad: object) -> None:
    assert "it is damaged: " in message(lambda: parse_manifest(manifest(config=bad)))
    assert "it is damaged: " in message(lambda: parse_manifest(manifest(layers=[descriptor(), bad])))
    index = json.dumps({"manifests": [bad]}).encode()
    assert "it is damaged: " in message(lambda: parse_index(index))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_index(flavour: Flavour) -> None:
    platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm", "variant": "v7"}]
    entries = [descriptor(MEDIA_TYPES[flavour]["manifest"], platform=platform) for platform in platforms]
    content = json.dumps({"schemaVersion": 2, "mediaType": MEDIA_TYPES[flavour]["index"], "manifests": entries})
    found = parse_index(content.encode())
    assert [entry.platform for entry in found] == [Platform("linux", "amd64"), Platform("linux", "arm", "v7")]
    assert is_index(content.encode(), "")


@pytest.mark.parametrize("entries", [None, {}, "x", 7])
def test_index_without_list(entries: object) -> None:
    assert "no list of manifests" in message(lambda: parse_index(json.dumps({"manifests": entries}).encode()))


OCI, DOCKER = MEDIA_TYPES["oci"], MEDIA_TYPES["docker"]


@pytest.mark.parametrize(
    ("data", "media_type", "index"),
    [
        ({"mediaType": OCI["index"]}, "", True),
        ({"mediaType": DOCKER["index"]}, "", True),
        ({}, OCI["index"], True),
        ({}, DOCKER["index"], True),
        ({}, OCI["manifest"], False),
        ({}, "application/json", False),
        ({"manifests": []}, "application/json", True),
        ({"manifests": []}, "text/plain", True),
        ({"layers": []}, "", False),
        ({"config": {}, "layers": []}, DOCKER["manifest"], False),
        ({"mediaType": ""}, OCI["index"], True),
        ({"mediaType": None, "manifests": []}, "", True),
        ({"mediaType": OCI["index"], "manifests": [], "annotations": {"layers": "x"}}, OCI["index"], True),
    ],
)
def test_telling_an_index(data: dict[str, object], media_type: str, index: bool) -> None:
    assert is_index(json.dumps(data).encode(), media_type) is index


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        ({"manifests": [], "layers": []}, ""),
        ({"manifests": [], "layers": []}, OCI["index"]),
        ({"manifests": [], "layers": [], "mediaType": OCI["manifest"]}, OCI["manifest"]),
        ({"manifests": [], "config": {}}, ""),
        ({"layers": [], "fsLayers": []}, ""),
        ({"manifests": [], "history": []}, ""),
        ({"layers": [], "mediaType": OCI["index"]}, ""),
        ({"manifests": [], "mediaType": OCI["manifest"]}, ""),
        ({"layers": []}, OCI["index"]),
        ({"manifests": []}, OCI["manifest"]),
        ({"manifests": []}, DOCKER["manifest"]),
        ({"mediaType": OCI["manifest"]}, OCI["index"]),
        ({"mediaType": OCI["index"]}, OCI["manifest"]),
        ({"layers": [], "mediaType": OCI["manifest"]}, DOCKER["manifest"]),
        ({"manifests": [], "mediaType": DOCKER["index"]}, OCI["index"]),
        ({"layers": [], "mediaType": OCI["config"]}, ""),
        ({"layers": [], "mediaType": "application/json"}, ""),
        ({"layers": []}, OCI["config"]),
        ({"layers": []}, f"{OCI['manifest']}, {OCI['index']}"),
        ({"mediaType": 7, "manifests": []}, ""),
        ({"mediaType": [OCI["index"]], "manifests": []}, ""),
    ],
)
def test_one_document_with_two_readings(data: dict[str, object], media_type: str) -> None:
    assert "is ambiguous" in message(lambda: is_index(json.dumps(data).encode(), media_type))


@pytest.mark.parametrize(
    "text",
    [
        '{"manifests": [], "manifests": []}',
        '{"layers": [{"digest": "a"}], "layers": []}',
        '{"layers": [{"digest": "a", "Digest": "b"}]}',
        '{"mediaType": "a", "mediatype": "b"}',
        '{"manifests": [], "Layers": []}',
        '{"MANIFESTS": [], "layers": []}',
        '{"manifests": [], "layer\u017f": []}',
        '{"layers": [], "FSLayers": []}',
        '{"manifests": [{"Platform": {}}]}',
        '{"manifests": [{"platform": {"OS": "linux"}}]}',
    ],
)
def test_names_that_programs_read_otherwise(text: str) -> None:
    """Programs differ in which of two counts, and in whether the case of letters does."""
    readers: tuple[Callable[[bytes], object], ...] = (parse_manifest, parse_index, is_artifact)
    for read in (*readers, lambda content: is_index(content, "")):
        said = message(partial(read, text.encode()))
        assert "has a name twice" in said or "only in upper and lower case" in said


@pytest.mark.parametrize(("here", "elsewhere"), [("rootfs", "RootFS"), ("os", "OS"), ("architecture", "Architecture")])
def test_config_that_programs_read_otherwise(here: str, elsewhere: str) -> None:
    for text in (f'{{"{here}": 1, "{here}": 2}}', f'{{"{here}": 1, "{elsewhere}": 2}}', f'{{"{elsewhere}": 2}}'):
        said = message(partial(parse_config, text.encode(), 1))
        assert "has a name twice" in said or "only in upper and lower case" in said


@pytest.mark.parametrize(
    ("changes", "artifact"),
    [
        ({}, False),
        ({"config": descriptor(), "layers": [descriptor()]}, False),
        ({"artifactType": OCI["config"]}, False),
        ({"artifactType": "application/vnd.example.sbom"}, True),
        ({"config": descriptor("application/vnd.oci.empty.v1+json")}, True),
        ({"config": descriptor("application/vnd.cncf.helm.config.v1+json")}, True),
        ({"layers": [descriptor("application/vnd.dev.cosign.simplesigning.v1+json")]}, True),
        ({"layers": [descriptor(OCI["gzip"]), descriptor("application/vnd.in-toto+json")]}, True),
        ({"layers": None, "config": []}, False),
    ],
)
def test_artifacts(changes: dict[str, object], artifact: bool) -> None:
    for flavour in FLAVOURS:
        assert is_artifact(manifest(flavour, **changes)) is artifact


def test_config() -> None:
    found = parse_config(config(), 2)
    assert found.platform == Platform("linux", "arm64", "v8")
    assert found.diff_ids == (DIGEST, OTHER)


def test_config_without_platform() -> None:
    assert parse_config(config(os=..., architecture=..., variant=...), 2).platform == Platform("", "")


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_config_with_another_number_of_layers(layers: int) -> None:
    assert f"one diffID for each of the {layers} layers" in message(lambda: parse_config(config(), layers))


@pytest.mark.parametrize("rootfs", [..., None, [], "x", {}, {"diff_ids": None}, {"diff_ids": {}}, {"diff_ids": "xx"}])
def test_config_without_diff_ids(rootfs: object) -> None:
    assert "does not list one diffID" in message(lambda: parse_config(config(rootfs=rootfs), 2))


@pytest.mark.parametrize("diff_id", [None, 7, "", "sha256:1", "ab" * 32, DIGEST.upper()])
def test_config_with_a_bad_diff_id(diff_id: object) -> None:
    changed = config(rootfs={"diff_ids": [DIGEST, diff_id]})
    assert "it has a bad diffID" in message(lambda: parse_config(changed, 2))
