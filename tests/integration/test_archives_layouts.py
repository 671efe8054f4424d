"""OCI layout directories as tools write them, and paths as people type them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.disks import run
from tests.lib.oci_writer import sha256, write_layout
from tests.lib.program import Program
from tests.lib.small_image import small_image
from tests.lib.space import tmpfs
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import Line, differences, tree_list

MORE = layer(file("usr/more", b"more\n" * 5000))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout that skopeo wrote, with two images; `small` is the one that every test unpacks."""
    top = tmp_path_factory.mktemp("layout")
    for name, image in (("small", small_image()), ("more", small_image(MORE))):
        source = write_layout(top / name, image)
        run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{source}:latest", f"oci:{top / 'both'}:{name}")
    return top / "both"


@pytest.fixture(scope="module")
def wanted(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of it."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    run("umoci", "unpack", "--image", f"{layout}:small", bundle)
    return tree_list(bundle / "rootfs")


@pytest.fixture
def there(layout: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(layout, tmp_path / "here/layout")
    return tmp_path / "here/layout"


@pytest.mark.parametrize("source", ["layout", "layout/", "../here/layout", "link", "{top}/layout"])
def test_paths(source: str, program: Program, there: Path, wanted: list[Line], tmp_path: Path) -> None:
    top = there.parent
    (top / "link").symlink_to("layout")
    source_text = source.format(top=top)
    program.run("unpack", source_text, tmp_path / "tree", "--label", "small", cwd=top).good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))


def test_layout_that_is_where_one_stands(program: Program, there: Path, wanted: list[Line], tmp_path: Path) -> None:
    program.run("unpack", ".", tmp_path / "tree", "--label", "small", cwd=there).good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))


@pytest.mark.parametrize("name", ["LABEL=USB:", "http:", "-layout größe"])
def test_names_that_look_like_something_else(
    name: str, program: Program, there: Path, wanted: list[Line], tmp_path: Path
) -> None:
    """What is there by its absolute path is meant."""
    there.rename(there.parent / name)
    program.run("unpack", there.parent / name, tmp_path / "tree", "--label", "small").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))


def test_labels(program: Program, layout: Path, tmp_path: Path) -> None:
    for label, layers in (("small", 2), ("more", 3)):
        seen = json.loads(program.run("inspect", "--json", "--label", label, layout).good().stdout)
        assert len(seen["layers"]) == layers
    assert "it contains: more, small" in program.run("unpack", layout, tmp_path / "tree").error(layout)


def test_boot(program: Program, layout: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{layout} bootclabel=more", tmp_path) as made:
        assert (made.root / "usr/more").read_text().startswith("more\n")
        assert made.receipt["source"] == str(layout)


def test_layout_on_a_full_read_only_file_system(
    program: Program, layout: Path, wanted: list[Line], tmp_path: Path
) -> None:
    """Nothing is written where it lies."""
    with tmpfs(tmp_path / "disk", "size=8M") as disk:
        shutil.copytree(layout, disk / "layout")
        run("mount", "-o", "remount,ro", disk)
        program.run("unpack", disk / "layout", tmp_path / "tree", "--label", "small").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))


def blobs(layout: Path) -> dict[str, Path]:
    """The blobs of the image `small` by what they are."""
    index = json.loads((layout / "index.json").read_text())
    entry = next(entry for entry in index["manifests"] if "small" in entry["annotations"].values())
    manifest = layout / "blobs" / entry["digest"].replace(":", "/")
    content = json.loads(manifest.read_text())
    parts = {"config": content["config"], "base": content["layers"][0], "top": content["layers"][1]}
    found = {name: layout / "blobs" / part["digest"].replace(":", "/") for name, part in parts.items()}
    return {"index": layout / "index.json", "manifest": manifest, **found}


DAMAGES = [
    ("index", "missing"),
    ("index", "empty"),
    ("manifest", "missing"),
    ("manifest", "changed"),
    ("manifest", "short"),
    ("config", "missing"),
]
DAMAGES += [("top", how) for how in ("missing", "changed", "short", "dangling", "directory", "round and round")]


@pytest.mark.parametrize(("what", "how"), DAMAGES)
def test_damage(what: str, how: str, program: Program, there: Path, tmp_path: Path) -> None:
    path = blobs(there)[what]
    content = path.read_bytes()
    path.unlink()
    if how == "changed":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :])
    elif how in {"short", "empty"}:
        path.write_bytes(content[: len(content) - 5 if how == "short" else 0])
    elif how == "dangling":
        path.symlink_to("/nowhere")
    elif how == "directory":
        path.mkdir()
    elif how == "round and round":
        path.symlink_to(path.name)
    told = program.run("unpack", there, tmp_path / "tree", "--label", "small").error(repr(str(there)))
    assert ("the manifest of" if (what, how) == ("manifest", "short") else path.name) in told
    assert sorted(os.listdir(tmp_path)) == ["here"]


def test_next_source_after_a_damaged_one(program: Program, layout: Path, there: Path, tmp_path: Path) -> None:
    blobs(there)["top"].unlink()
    kargs = f"root=bootc-live:{there} bootclabel=small bootc.live.fallback={layout}"
    with booted(program, kargs, tmp_path / "boot") as made:
        assert made.receipt["source"] == str(layout)
        assert blobs(layout)["top"].name in made.receipt["sources"][0]["error"]


@pytest.mark.parametrize("name", ["./missing.oci", "/missing/root.oci"])
def test_missing(name: str, program: Program, tmp_path: Path) -> None:
    program.run("unpack", name, tmp_path / "tree", cwd=tmp_path).error(repr(name))


def test_empty_directory(program: Program, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = program.run("unpack", "empty", tmp_path / "tree", cwd=tmp_path).error("empty")
    assert "it has no index.json" in told


def test_digest_of_what_was_unpacked(program: Program, layout: Path) -> None:
    seen = json.loads(program.run("inspect", "--json", "--label", "small", layout).good().stdout)
    assert seen["manifest_digest"] == sha256(blobs(layout)["manifest"])
