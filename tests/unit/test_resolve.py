"""From what a name stands for to the one image that is meant: indexes, indexes in them, and what else lies there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootc_live.base.errors import ImageError, SourceError
from bootc_live.formats import json_text
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.oci.platform import MisfitError, machine_platform
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.interface import StreamSource, TopManifest
from tests.lib.oci_writer import MEDIA_TYPES, REF_NAME, sha256

OCI = MEDIA_TYPES["oci"]
LAYER = b"layer"
Json = dict[str, Any]


@dataclass
class Shelf:
    """A source of small documents; `asked` are the digests that were fetched, `given_as` is the top's Content-Type."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    first: bytes = b""
    given_as: str = ""
    asked: list[str] = field(default_factory=list)
    source_text: str = "source"
    insecure: bool = False

    def put(self, content: Json, media_type: str, **more: object) -> Json:
        """Keeps a document; gives its descriptor."""
        data = json.dumps(content).encode()
        self.blobs[sha256(data)] = data
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}

    def image(self, architecture: str = "amd64", tag: str = "", manifest: Json | None = None, **more: object) -> Json:
        """An image whose config names an architecture, told apart by `tag`; `manifest` are changes of it."""
        config = {"os": "linux", "architecture": architecture, "tag": tag, "rootfs": {"diff_ids": [sha256(LAYER)]}}
        layers = [{"mediaType": OCI["none"], "digest": sha256(LAYER), "size": len(LAYER)}]
        whole = {"schemaVersion": 2, "mediaType": OCI["manifest"], "layers": layers} | (manifest or {})
        whole.setdefault("config", self.put(config, OCI["config"]))
        return self.put(whole, OCI["manifest"], **more)

    def index(self, *entries: Json, **more: object) -> Json:
        """An index of these."""
        return self.put({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": entries}, OCI["index"], **more)

    def resolve(self, top: Json, machine: str = "x86_64", pin: str | None = None) -> str:
        """The digest of the manifest that is chosen."""
        self.first = self.blobs[top["digest"]]
        found = resolve_image(self, Wanted(machine_platform(machine), pin)).manifest_digest
        assert found is not None
        return found

    def top(self) -> TopManifest:
        """See `Source`."""
        return TopManifest(self.first, self.given_as, None)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """See `Source`."""
        self.asked.append(descriptor.digest)
        yield iter([self.blobs[descriptor.digest]])

    open_manifest = open_blob

    def served_by(self, _descriptor: Descriptor) -> str | None:
        """See `Source`."""
        return None

    def interrupt(self) -> None:
        """See `Source`."""


def on(architecture: str, os: str = "linux") -> dict[str, Any]:
    return {"platform": {"os": os, "architecture": architecture}}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.mark.parametrize("deep", [1, 2, 3, 4])
@pytest.mark.parametrize("named", [True, False])
def test_indexes_of_indexes(deep: int, named: bool, shelf: Shelf) -> None:
    """By the platforms in them, or by the configs of the images."""
    entries = {name: shelf.image(name, **(on(name) if named else {})) for name in ("s390x", "amd64", "arm64")}
    chosen = entries["amd64"]["digest"]
    top = shelf.index(*entries.values())
    for _ in range(deep - 1):
        top = shelf.index(shelf.index(shelf.image("s390x", **on("s390x"))), top)
    assert shelf.resolve(top) == chosen


def test_an_index_of_indexes_by_platform_is_not_searched(shelf: Shelf) -> None:
    first, second = (shelf.index(shelf.image(name, **on(name)), **on(name)) for name in ("arm64", "amd64"))
    shelf.resolve(shelf.index(first, second))
    assert first["digest"] not in shelf.asked


def test_depth_is_bounded(shelf: Shelf) -> None:
    top = shelf.image()
    for _ in range(5):
        top = shelf.index(top)
    with pytest.raises(ImageError, match="nested more than 4 deep"):
        shelf.resolve(top)


def test_width_is_bounded(shelf: Shelf) -> None:
    top = shelf.index(
        *(shelf.index(*(shelf.image("s390x", f"{row} {column}") for column in range(9))) for row in range(9))
    )
    with pytest.raises(ImageError, match="more than 32 possible images"):
        shelf.resolve(top)
    assert len(shelf.asked) < 2 * 32


@pytest.mark.parametrize(
    ("others", "where", "fit"),
    [(3, "config", True), (5, "config", False), (3, "manifest", True), (5, "manifest", False), (5, "repeated", True)],
)
def test_documents_are_bounded_together(
    others: int, where: str, fit: bool, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have to be looked at one by one; the real bound takes longer."""
    monkeypatch.setattr(json_text, "LARGEST_TOGETHER", 4 * 2**16)
    long = "x" * (2**16 - 2**13)
    entries = []
    for number in range(others):
        tag = "same" if where == "repeated" else str(number)
        large = {"annotations": {"long": f"{long}{tag}"}} if where == "manifest" else None
        entries.append(shelf.image("s390x", tag if large else f"{long}{tag}", large))
    top = shelf.index(*entries, shelf.image())
    if fit:
        shelf.resolve(top)
        return
    with pytest.raises(ImageError, match=r"^'source' leads to more than 262144 bytes of documents$"):
        shelf.resolve(top)
    assert sum(len(shelf.blobs[digest]) for digest in shelf.asked) <= 4 * 2**16


SIGNATURES: Sequence[tuple[Json, Json]] = [
    ({}, {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}),
    ({}, {"annotations": {"kind": "dev.cosignproject.cosign/sigs"}}),
    ({}, {"platform": {"os": "unknown", "architecture": "unknown"}}),
    ({}, {"artifactType": "application/vnd.example.sbom"}),
    ({}, {"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}),
    ({"artifactType": "application/vnd.example.sbom"}, {}),
    ({"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256(b"{}"), "size": 2}}, {}),
    ({"layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": "x", "size": 1}]}, {}),
    ({"layers": [{"mediaType": "application/vnd.in-toto+json", "digest": "x", "size": 1}]}, {}),
]


@pytest.mark.parametrize(("manifest", "entry"), SIGNATURES)
def test_signatures_are_passed_over(manifest: Json, entry: Json, shelf: Shelf) -> None:
    signature = {**shelf.image(tag="signature", manifest=manifest), **entry}
    image = shelf.image(tag="image")
    assert shelf.resolve(shelf.index(signature, image)) == image["digest"]
    with pytest.raises(MisfitError):
        shelf.resolve(shelf.index(signature))


@pytest.mark.parametrize("spelling", ["amd64", "AMD64", "x86_64", "x86-64"])
def test_the_config_s_spelling(spelling: str, shelf: Shelf) -> None:
    image = shelf.image(spelling)
    assert shelf.resolve(image) == image["digest"]
    assert shelf.resolve(shelf.index(shelf.image("arm64"), image)) == image["digest"]


def test_nothing_that_fits(shelf: Shelf) -> None:
    named = shelf.index(shelf.image("arm64", **on("arm64")), shelf.image("s390x", **on("s390x")))
    with pytest.raises(MisfitError) as caught:
        shelf.resolve(named)
    assert caught.value.message == "'source' is not made for linux/amd64; its index has: linux/arm64, linux/s390x"
    with pytest.raises(MisfitError) as caught:
        shelf.resolve(shelf.index(shelf.image("arm64"), shelf.image("s390x"), named))
    assert all(name in caught.value.message for name in ("linux/arm64", "linux/s390x", "linux/amd64"))
    assert caught.value.hint


def test_pins(shelf: Shelf) -> None:
    """Of the whole, of a part, of an image beside others: whatever has that digest, and what it holds."""
    one, two, three = (shelf.image(tag=tag) for tag in ("one", "two", "three"))
    inner = shelf.index(two, three)
    top = shelf.index(one, inner)
    for pin, chosen in ((top, one), (inner, two), (one, one), (two, two), (three, three)):
        assert shelf.resolve(top, pin=pin["digest"]) == chosen["digest"]
    with pytest.raises(MisfitError, match="allows only"):
        shelf.resolve(one, pin="sha256:" + "0" * 64)
    foreign = shelf.image("s390x")
    with pytest.raises(MisfitError, match="made for linux/s390x"):
        shelf.resolve(shelf.index(one, foreign), pin=foreign["digest"])


@pytest.mark.parametrize("inside", [False, True])
def test_a_manifest_that_is_an_index_too(inside: bool, shelf: Shelf) -> None:
    other = shelf.image(tag="other")
    both = shelf.image(manifest={"manifests": [other]})
    for pin in (None, both["digest"]):
        with pytest.raises(ImageError, match="is ambiguous"):
            shelf.resolve(shelf.index(both, other) if inside else both, pin=pin)


def test_what_a_server_calls_it(shelf: Shelf) -> None:
    image = shelf.image()
    for given_as, good in ((OCI["manifest"], True), ("application/json", True), ("", True), (OCI["index"], False)):
        shelf.given_as = given_as
        if good:
            shelf.resolve(image)
        else:
            with pytest.raises(ImageError, match="is ambiguous"):
                shelf.resolve(image)


def test_an_entry_calls_it_something_else(shelf: Shelf) -> None:
    image, index = shelf.image(), shelf.index(shelf.image())
    for entry, kind in ((image, "index"), (index, "manifest")):
        with pytest.raises(ImageError, match="is ambiguous"):
            shelf.resolve(shelf.index({**entry, "mediaType": OCI[kind]}))


def laid_out(shelf: Shelf, entries: Sequence[Json], where: Path, **more: object) -> str:
    (where / "blobs/sha256").mkdir(parents=True)
    for digest, content in shelf.blobs.items():
        (where / "blobs/sha256" / digest.partition(":")[2]).write_bytes(content)
    (where / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries, **more}))
    return str(where)


def called(name: str) -> Json:
    return {"annotations": {REF_NAME: name}}


def chosen_from(layout: str, label: str | None = None, pin: str | None = None) -> str | None:
    with open_archive(layout, "source", label) as source:
        assert not isinstance(source, StreamSource)
        return resolve_image(source, Wanted(machine_platform("x86_64"), pin)).manifest_digest


def test_layouts_without_names(shelf: Shelf, tmp_path: Path) -> None:
    """The one that fits the machine, by the platforms in index.json or those of the configs; the first of several."""
    there, here, more = shelf.image("arm64"), shelf.image("amd64"), shelf.image("amd64", "more")
    signature = shelf.image(tag="signature", annotations={"kind": "dev.cosignproject.cosign/sigs"})
    rows = (
        ([{**there, **on("arm64")}, {**here, **on("amd64")}], None),
        ([there, here], None),
        ([here, here], None),
        ([here, there, more], None),
        ([signature, here], None),
        ([shelf.index(signature, there, here)], None),
        ([there, shelf.index(there, here), more], None),
        ([more, here], here["digest"]),
        ([{**here, **called("v1"), **on("amd64")}, {**there, **called("v1"), **on("arm64")}], None),
        ([{**here, **called("v1")}, {**signature, **called("sha256-" + "ab" * 32 + ".sig")}], None),
        ([{**here, **called("v1")}, signature], None),
        ([{**here, **called("")}, there], None),
    )
    for number, (entries, pin) in enumerate(rows):
        assert chosen_from(laid_out(shelf, entries, tmp_path / f"{number}"), pin=pin) == here["digest"], number


def test_names_in_other_case_are_other_names(shelf: Shelf, tmp_path: Path) -> None:
    """An annotation counts by its name as it is specified; so do labels."""
    right, wrong = shelf.image(tag="right"), shelf.image(tag="wrong")
    other = "Org.OpenContainers.Image.Ref.Name"
    rows: tuple[tuple[Json, Json], ...] = (
        ({REF_NAME: "v1"}, {other: "v1"}),
        ({other: "v2", REF_NAME: "v1"}, {REF_NAME: "v2", other: "v1"}),
        ({REF_NAME: "v1", other: "v2"}, {other: "v1", REF_NAME: "v2"}),
        ({REF_NAME: "v1"}, {REF_NAME: "V1"}),
    )
    for number, (of_right, of_wrong) in enumerate(rows):
        entries = [{**wrong, "annotations": of_wrong}, {**right, "annotations": of_right}]
        for order in (entries, entries[::-1]):
            layout = laid_out(shelf, order, tmp_path / f"{number}{order is entries}")
            assert chosen_from(layout, "v1") == right["digest"], number


@pytest.mark.parametrize(
    "index",
    [
        '{"manifests": [], "manifests": [%s]}',
        '{"Manifests": [], "manifests": [%s]}',
        '{"manifests": [%s], "MANIFESTS": []}',
        '{"manifests": [{"Annotations": {}}, %s]}',
    ],
)
def test_an_index_json_that_programs_read_otherwise(shelf: Shelf, tmp_path: Path, index: str) -> None:
    layout = laid_out(shelf, [], tmp_path / "layout")
    Path(layout, "index.json").write_text(index % json.dumps(shelf.image()))
    with pytest.raises(SourceError, match=r"damaged index\.json: .*(has a name twice|only in upper and lower case)"):
        chosen_from(layout)


def test_an_index_json_that_is_a_manifest_too(shelf: Shelf, tmp_path: Path) -> None:
    layout = laid_out(shelf, [shelf.image()], tmp_path / "layout", layers=[])
    with pytest.raises(Exception, match="it is a manifest, too"):
        chosen_from(layout)
