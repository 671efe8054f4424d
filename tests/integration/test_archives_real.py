"""Archives as real tools write them, compressed by real programs, from files and web servers: the tree is umoci's."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.archive_members import tar_of
from tests.lib.archive_servers import Framing, Stored, archive_server, cut_at
from tests.lib.booted import booted
from tests.lib.disks import run
from tests.lib.docker_writer import STYLES, Saved, Style, docker_members
from tests.lib.oci_writer import sha256, write_layout
from tests.lib.program import Program
from tests.lib.small_image import BASE, UPPER, small_image
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import Line, differences, tree_list

NAME = "registry.example/os:v1"
MORE = layer(file("usr/more", random.Random(4).randbytes(300_000)))
TARS = [BASE, UPPER, MORE]
# Programs that compress a whole archive, and what they put at its end.
COMPRESSORS = {
    "gzip": ["gzip", "-c"],
    "igzip": ["igzip", "-c"],
    "zstd": ["zstd", "-q", "-c"],
    "zstd -19 in frames": ["zstd", "-q", "-19", "--long=25", "-c"],
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as an OCI layout."""
    return write_layout(tmp_path_factory.mktemp("layout") / "image", small_image(MORE))


@pytest.fixture(scope="module")
def wanted(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of it."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    run("umoci", "unpack", "--image", f"{layout}:latest", bundle)
    return tree_list(bundle / "rootfs")


@pytest.fixture(scope="module")
def archives(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The image as skopeo and buildah write it."""
    top = tmp_path_factory.mktemp("archives")
    made = {}
    for kind in ("oci-archive", "docker-archive"):
        made[f"skopeo {kind}"] = top / f"skopeo-{kind}"
        target = f"{kind}:{made[f'skopeo {kind}']}:{NAME}"
        run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:latest", target)
    store: list[str | Path] = ["buildah", "--root", top / "store", "--runroot", top / "run", "--storage-driver", "vfs"]
    image = run(*store, "pull", "--quiet", f"oci:{layout}:latest").splitlines()[-1]
    for kind in ("oci-archive", "docker-archive"):
        made[f"buildah {kind}"] = top / f"buildah-{kind}"
        run(*store, "push", "--quiet", image, f"{kind}:{made[f'buildah {kind}']}:{NAME}")
    yield made
    shutil.rmtree(top / "store")


KINDS = [f"{tool} {kind}" for tool in ("skopeo", "buildah") for kind in ("oci-archive", "docker-archive")]


def unpacked(program: Program, source: str | Path, wanted: list[Line], tmp_path: Path, *options: str) -> None:
    """Unpacks a source; the tree is right, and gone again."""
    program.run("unpack", source, tmp_path / "tree", *options).good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    shutil.rmtree(tmp_path / "tree")


def compressed(how: str, source: Path, target: Path) -> Path:
    with source.open("rb") as plain, target.open("wb") as out:
        subprocess.run(COMPRESSORS[how], stdin=plain, stdout=out, check=True)
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_real_archives(
    kind: str, program: Program, archives: dict[str, Path], wanted: list[Line], tmp_path: Path
) -> None:
    unpacked(program, archives[kind], wanted, tmp_path)
    for label in (NAME, "v1"):
        program.run("inspect", archives[kind], "--label", label).good()
    told = program.run("unpack", archives[kind], tmp_path / "tree", "--label", "v2").error(archives[kind])
    assert f"it contains: {NAME}" in told


@pytest.mark.parametrize(("how", "kind"), list(zip(COMPRESSORS, KINDS, strict=True)))
def test_compressed_archives(
    how: str, kind: str, program: Program, archives: dict[str, Path], wanted: list[Line], tmp_path: Path
) -> None:
    unpacked(program, compressed(how, archives[kind], tmp_path / "a"), wanted, tmp_path)


@pytest.mark.parametrize(("how", "ranges"), [("plain", True), ("gzip", False), ("zstd", True)])
@pytest.mark.parametrize("kind", ["skopeo oci-archive", "skopeo docker-archive"])
def test_archives_on_web_servers(
    how: str, ranges: bool, kind: str, program: Program, archives: dict[str, Path], wanted: list[Line], tmp_path: Path
) -> None:
    path = archives[kind] if how == "plain" else compressed(how, archives[kind], tmp_path / "a")
    stored = Stored(path.read_bytes(), ranges, framing=Framing.LENGTH if ranges else Framing.CLOSE)
    with archive_server(cut_at(stored, path.stat().st_size // 2) if ranges else stored) as served:
        unpacked(program, served.url(), wanted, tmp_path)


@pytest.mark.parametrize("style", STYLES)
def test_our_docker_archives_are_real(style: Style, program: Program, wanted: list[Line], tmp_path: Path) -> None:
    """What the tests without tools are made with: skopeo makes the same of it, and so do we."""
    members = docker_members(style, Saved([*TARS, MORE], [NAME]))
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(members))
    unpacked(program, path, wanted, tmp_path)
    target = tmp_path / "layout"
    run("skopeo", "copy", "--quiet", "--insecure-policy", f"docker-archive:{path}:{NAME}", f"oci:{target}:latest")
    run("umoci", "unpack", "--image", f"{target}:latest", tmp_path / "bundle")
    assert not differences(wanted, tree_list(tmp_path / "bundle/rootfs"))
    shutil.rmtree(tmp_path / "bundle")


def test_skopeo_writes_a_layer_that_stands_twice_once(program: Program, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", small_image(MORE, UPPER, MORE))
    run("umoci", "unpack", "--image", f"{layout}:latest", tmp_path / "bundle")
    path = tmp_path / "a.tar"
    run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:latest", f"docker-archive:{path}:{NAME}")
    unpacked(program, path, tree_list(tmp_path / "bundle/rootfs"), tmp_path)


def test_several_images_of_skopeo(program: Program, layout: Path, wanted: list[Line], tmp_path: Path) -> None:
    """oci-archive: by what one layout holds under several names."""
    both, path = tmp_path / "both", tmp_path / "a.oci"
    other = write_layout(tmp_path / "other", small_image())
    for source, tag in ((layout, "one"), (other, "two")):
        run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{source}:latest", f"oci:{both}:{tag}")
    run("tar", "-C", both, "-cf", path, ".")
    for source_path in (path, both):
        unpacked(program, source_path, wanted, tmp_path, "--label", "one")
    assert "it contains: one, two" in program.run("unpack", path, tmp_path / "tree").error(path)


def test_inspect(program: Program, archives: dict[str, Path], layout: Path) -> None:
    """The same image is the same, wherever it is; a docker-archive has no manifest of its own."""
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    seen = {kind: json.loads(program.run("inspect", "--json", archives[kind]).good().stdout) for kind in KINDS}
    assert seen["skopeo oci-archive"]["manifest_digest"] == digest
    for kind in KINDS:
        assert [layer["diff_id"] for layer in seen[kind]["layers"]] == [sha256(tar) for tar in TARS]
        assert (seen[kind]["manifest_digest"] is None) == ("docker" in kind)
    assert "none: a docker-archive" in program.run("inspect", archives["skopeo docker-archive"]).good().stdout


@pytest.mark.parametrize("kind", ["skopeo docker-archive", "skopeo oci-archive"])
def test_boot_by_pin(kind: str, program: Program, archives: dict[str, Path], tmp_path: Path) -> None:
    image = json.loads(program.run("inspect", "--json", archives[kind]).good().stdout)
    pin = image["manifest_digest"] or image["config_digest"]
    path = compressed("gzip", archives[kind], tmp_path / "a")
    with booted(program, f"root=bootc-live:{path} bootc.live.digest={pin}", tmp_path) as made:
        assert (made.root / "usr/more").stat().st_size == 300_000
        assert made.receipt["policy"]["pin"] == pin
        assert made.receipt["image"]["manifest_digest"] == image["manifest_digest"]
        assert made.receipt["image"]["config_digest"] == image["config_digest"]
    wrong = "sha256:" + "1" * 64
    (tmp_path / "sysroot-2").mkdir()
    ended = program.run(
        "boot", "--cmdline", f"root=bootc-live:{path} bootc.live.digest={wrong}", "--sysroot", tmp_path / "sysroot-2"
    )
    ended.error(path, pin, wrong)


@pytest.mark.parametrize(("how", "place"), [("gzip", 0.6), ("zstd", 0.02)])
def test_damaged_compression(
    how: str, place: float, program: Program, archives: dict[str, Path], tmp_path: Path
) -> None:
    path = compressed(how, archives["buildah docker-archive"], tmp_path / "a")
    data = bytearray(path.read_bytes())
    start = int(len(data) * place)
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)
    program.run("unpack", path, tmp_path / "tree").error(path)
    path.write_bytes(bytes(data[:start]))
    program.run("unpack", path, tmp_path / "tree").error(path)
