"""Images in a real registry make the same tree as umoci makes of the layout they were pushed from."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.oci_writer import MEDIA_TYPES, Compression, Flavour, Image, Index, Layer, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import directory, file, hardlink, layer
from tests.lib.tree_list import Line, differences, tree_list

RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
FOREIGN = "s390x"

# Every layer changes what the one below said, and the first one stands again on top.
FIRST = layer(directory("order/"), file("order/who", "first\n"), file("order/first", "1\n"))
SECOND = layer(file("order/who", "second\n"), file("order/.wh.first", ""), hardlink("order/link", "usr/bin/plain"))
TARS = (BASE, UPPER, FIRST, SECOND, FIRST, layer(file("order/last", "last\n")))


def image(compression: Compression = "gzip", flavour: Flavour = "oci", architecture: str = HERE) -> Image:
    """The image of all rows, packed in one way."""
    return Image([Layer(tar, compression) for tar in TARS], flavour=flavour, architecture=architecture)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of the image."""
    where = tmp_path_factory.mktemp("umoci")
    layout = write_layout(where / "layout", image())
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", where / "bundle"], check=True)
    tree = tree_list(where / "bundle/rootfs")
    assert {line.path for line in tree} >= {"order/who", "order/first", "order/link", "order/last", "usr/new"}
    return tree


def pulled(program: Program, source: str, where: Path) -> list[Line]:
    """The tree that unpack makes of a source."""
    program.run("unpack", "--unsecure", source, where / "tree").good()
    return tree_list(where / "tree")


def manifest(served: Registry, digest: str) -> dict[str, object]:
    """A manifest as it lies in the registry."""
    content: dict[str, object] = json.loads(served.blob(digest).read_bytes())
    return content


def test_boot_by_tag_over_http(program: Program, plain: Registry, wanted: list[Line], tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image())
    digest = plain.push(f"oci:{layout}:latest", "group/os:stable")
    source = plain.source("group/os:stable")
    with booted(program, f"root=bootc-live:{source} bootc.registry.unsecure {RO}", tmp_path / "boot") as made:
        assert not differences(wanted, tree_list(made.root))
        receipt = made.receipt
    assert receipt["source"] == receipt["image"]["reference"] == source
    assert receipt["image"]["manifest_digest"] == digest
    assert receipt["policy"]["insecure"] is True
    assert len(receipt["warnings"]) == 1
    assert "NOT checked" in receipt["warnings"][0]
    # The layer that stands twice is fetched once.
    sizes = {entry["digest"]: entry["size"] for entry in receipt["image"]["layers"]}
    assert (len(receipt["image"]["layers"]), len(sizes)) == (6, 5)
    assert receipt["bytes"]["fetched"] == sum(sizes.values())


@dataclass(frozen=True)
class Pushed:
    """One way an image can get into a registry, and what it then must look like there."""

    name: str
    push: Callable[[Registry, Path, str], str]
    packed: Compression
    flavour: Flavour = "oci"


def by_skopeo(compression: Compression, *options: str) -> Callable[[Registry, Path, str], str]:
    def push(served: Registry, where: Path, name: str) -> str:
        layout = write_layout(where / "layout", image(compression))
        return served.push(f"oci:{layout}:latest", f"{name}:latest", *options)

    return push


def as_it_is(compression: Compression, flavour: Flavour) -> Callable[[Registry, Path, str], str]:
    def push(served: Registry, where: Path, name: str) -> str:
        layout = write_layout(where / "layout", image(compression, flavour))
        return served.put(layout, name, "latest")

    return push


PUSHED = (
    Pushed("skopeo-oci-gzip", by_skopeo("gzip"), "gzip"),
    Pushed("skopeo-oci-zstd", by_skopeo("none", "--dest-compress-format", "zstd"), "zstd"),
    Pushed("skopeo-docker-gzip", by_skopeo("gzip", "--format", "v2s2"), "gzip", "docker"),
    Pushed("as-it-is-oci-plain", as_it_is("none", "oci"), "none"),
    Pushed("as-it-is-docker-zstd", as_it_is("zstd", "docker"), "zstd", "docker"),
)


@pytest.mark.parametrize("row", PUSHED, ids=lambda row: row.name)
def test_every_packing(row: Pushed, program: Program, plain: Registry, wanted: list[Line], tmp_path: Path) -> None:
    digest = row.push(plain, tmp_path, row.name)
    stored = manifest(plain, digest)
    assert stored["mediaType"] == MEDIA_TYPES[row.flavour]["manifest"]
    assert isinstance(stored["layers"], list)
    assert {entry["mediaType"] for entry in stored["layers"]} == {MEDIA_TYPES[row.flavour][row.packed]}
    assert not differences(wanted, pulled(program, plain.source(f"{row.name}:latest"), tmp_path))


@pytest.mark.parametrize("reference", ["name", "name@{digest}", "name:other@{digest}"])
def test_every_reference(reference: str, program: Program, plain: Registry, wanted: list[Line], tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", image())
    digest = plain.put(layout, "refs/of/some-depth/name", "latest")
    source = plain.source(f"refs/of/some-depth/{reference.format(digest=digest)}")
    assert not differences(wanted, pulled(program, source, tmp_path))


@pytest.mark.parametrize(("flavour", "by_digest"), [("oci", True), ("docker", False)])
def test_index(
    by_digest: bool, flavour: Flavour, program: Program, plain: Registry, wanted: list[Line], tmp_path: Path
) -> None:
    foreign = Image([Layer(layer(file("wrong", "x")))], architecture=FOREIGN, flavour=flavour)
    index = Index([foreign, image("gzip", flavour)], flavour=flavour)
    digest = plain.put(write_layout(tmp_path / "layout", index), "index", flavour)
    assert manifest(plain, digest)["mediaType"] == MEDIA_TYPES[flavour]["index"]
    source = plain.source(f"index@{digest}" if by_digest else f"index:{flavour}")
    assert not differences(wanted, pulled(program, source, tmp_path))


def test_index_pushed_by_skopeo(program: Program, plain: Registry, wanted: list[Line], tmp_path: Path) -> None:
    foreign = Image([Layer(layer(file("wrong", "x")))], architecture=FOREIGN)
    layout = write_layout(tmp_path / "layout", Index([foreign, image()]))
    digest = plain.push(f"oci:{layout}:latest", "all:latest", "--all")
    assert "manifests" in manifest(plain, digest)
    assert not differences(wanted, pulled(program, plain.source("all"), tmp_path))


def test_many_layers(program: Program, plain: Registry, tmp_path: Path) -> None:
    tars = [layer(file(f"layers/{number}", f"{number}\n"), file("layers/top", f"{number}\n")) for number in range(64)]
    layout = write_layout(tmp_path / "layout", Image([Layer(tar) for tar in tars], architecture=HERE))
    plain.put(layout, "many", "latest")
    tree = {line.path for line in pulled(program, plain.source("many"), tmp_path)}
    assert tree == {".", "layers", "layers/top", *(f"layers/{number}" for number in range(64))}
    assert (tmp_path / "tree/layers/top").read_text() == "63\n"
