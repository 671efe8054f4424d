"""``build``: several sources on top of each other, as an OCI image or as a tar; and that nothing else is touched."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.corpus import CASES
from tests.integration.corpus.case import Case
from tests.integration.corpus.oracle import ask_umoci, umoci_unpack, without_new_times
from tests.integration.corpus.verbs import for_layouts
from tests.integration.test_tree_corpus import image, wanted
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Image, Layer, compress, sha256, write_archive, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry
from tests.lib.signing import Key
from tests.lib.small_image import BASE, HERE, UPPER, archive_of
from tests.lib.tar_writer import directory, file, layer, symlink
from tests.lib.tree_list import Line, differences, tree_list

LOWER = layer(directory("etc/"), file("etc/name", "lower"), file("etc/lower", "1"), symlink("link", "etc"))
TOP = layer(file("etc/name", "top"), file("etc/.wh.lower", ""), file("link", "a file now"))


def extracted(tar: Path, where: Path) -> list[Line]:
    """The tree that GNU tar makes of a tar."""
    where.mkdir()
    argv = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-p", "-C", str(where)]
    argv += ["--file", str(tar)]
    subprocess.run(argv, check=True)
    return tree_list(where)


# How layers are merged is not decided here: all rows are booted by test_tree_corpus.
@pytest.mark.parametrize("case", for_layouts([case for case in CASES if not case.refused]))
def test_tar_and_layers_equal_umoci(case: Case, program: ForkedProgram, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.oci", image(case.layers))
    tar, layout = tmp_path / "out.tar", tmp_path / "layout"
    program.run("build", archive, "--rootfs-output", tar, "-o", layout).good()
    oracle = ask_umoci(image(case.layers))
    want, got = without_new_times(wanted(case, oracle), extracted(tar, tmp_path / "tree"))
    assert not differences(want, got)
    if oracle.tree is not None:
        assert umoci_unpack(layout, tmp_path / "bundle").returncode == 0
        want, got = without_new_times(oracle.tree, tree_list(tmp_path / "bundle/rootfs"))
        assert not differences(want, got)


def top_directory(where: Path) -> Path:
    """A directory that says the same as the layer of names, files and links, but no whiteout."""
    (where / "etc").mkdir(parents=True)
    (where / "etc/name").write_text("top")
    (where / "etc/again").hardlink_to(where / "etc/name")
    (where / "pipe").touch()
    os.mkfifo(where / "etc/pipe")
    os.mknod(where / "etc/null", 0o20666, os.makedev(1, 3))
    os.chown(where / "etc/name", 7, 8)
    os.setxattr(where / "etc/name", "user.x", b"a\0\xff")
    (where / "dangling").symlink_to("nowhere/at/all")
    return where


SOURCES: dict[str, Callable[[Path], Path]] = {
    "archive": lambda where: archive_of(where / "top.oci", TOP),
    "archive.gz": lambda where: _written(
        where / "top.oci.gz", gzip.compress(archive_of(where / "t", TOP).read_bytes())
    ),
    "archive by tar": lambda where: _tar_of(
        write_layout(where / "layout", Image([Layer(TOP)], architecture=HERE)), where / "top.oci"
    ),
    "layout": lambda where: write_layout(where / "layout", Image([Layer(TOP)], architecture=HERE)),
    "top.tar": lambda where: _written(where / "top.tar", TOP),
    "top.tar.gz": lambda where: _written(where / "top.tar.gz", gzip.compress(TOP)),
    "top.tar.zst": lambda where: _written(where / "top.tar.zst", compress(TOP, "zstd")),
    "top.tar.xz": lambda where: _written(where / "top.tar.xz", lzma.compress(TOP)),
    "two xz streams": lambda where: _written(where / "a", lzma.compress(TOP[:700]) + lzma.compress(TOP[700:])),
    "a tar without an ending": lambda where: _written(where / "top", TOP),
}


def _tar_of(directory: Path, path: Path) -> Path:
    subprocess.run(["tar", "-cf", path, "-C", directory, "."], check=True)
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", SOURCES)
def test_last_source_wins(kind: str, program: ForkedProgram, tmp_path: Path) -> None:
    base, top = archive_of(tmp_path / "base.oci", LOWER), SOURCES[kind](tmp_path)
    program.run("build", base, top, "--rootfs-output", tmp_path / "out.tar").good()
    found = {line.path: line for line in extracted(tmp_path / "out.tar", tmp_path / "tree")}
    assert (tmp_path / "tree/etc/name").read_text() == "top"
    assert (tmp_path / "tree/link").read_text() == "a file now"
    assert "etc/lower" not in found
    program.run("build", top, base, "--rootfs-output", tmp_path / "other.tar").good()
    extracted(tmp_path / "other.tar", tmp_path / "other")
    assert (tmp_path / "other/etc/name").read_text() == "lower"
    assert (tmp_path / "other/link").is_symlink()


def test_directory_as_it_is(program: ForkedProgram, tmp_path: Path) -> None:
    top = top_directory(tmp_path / "top")
    program.run("build", top, "--rootfs-output", tmp_path / "out.tar").good()
    want, got = tree_list(top), extracted(tmp_path / "out.tar", tmp_path / "tree")
    assert not differences(want, got)
    assert (tmp_path / "tree/etc/name").stat().st_ino == (tmp_path / "tree/etc/again").stat().st_ino


def test_directory_without_other_file_systems(program: ForkedProgram, tmp_path: Path) -> None:
    """What is mounted in it is not its own."""
    told = program.run("build", "/dev", "--rootfs-output", tmp_path / "dev.tar").good()
    assert "is taken without the other file systems that are mounted in it: " in told.stderr
    assert "/dev/shm" in told.stderr
    listed = subprocess.run(["tar", "-tf", tmp_path / "dev.tar"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "./null" in listed.splitlines()
    assert not [line for line in listed.splitlines() if line.startswith("./shm/") and line != "./shm/"]


def test_every_output_says_the_same(program: ForkedProgram, tmp_path: Path) -> None:
    sources = [archive_of(tmp_path / "small.oci", BASE, UPPER), top_directory(tmp_path / "top")]
    for name in ("one.oci", "two.oci"):
        program.run("build", *sources, "-o", tmp_path / name).good()
    assert (tmp_path / "one.oci").read_bytes() == (tmp_path / "two.oci").read_bytes()
    for ending in ("tar", "tar.gz", "tar.zst", "tar.xz"):
        program.run("build", tmp_path / "one.oci", "--rootfs-output", tmp_path / f"out.{ending}").good()
    plain = (tmp_path / "out.tar").read_bytes()
    assert gzip.decompress((tmp_path / "out.tar.gz").read_bytes()) == plain
    assert lzma.decompress((tmp_path / "out.tar.xz").read_bytes()) == plain
    unpacked = subprocess.run(["zstd", "-dcq", tmp_path / "out.tar.zst"], stdout=subprocess.PIPE, check=True).stdout
    assert unpacked == plain
    told = json.loads(program.run("inspect", tmp_path / "one.oci", "--json").good().stdout)
    assert len(told["layers"]) == 3
    copied = subprocess.run(
        ["skopeo", "copy", "-q", "--insecure-policy", f"oci-archive:{tmp_path}/one.oci", f"oci:{tmp_path}/copy:latest"],
        check=False,
    )
    assert copied.returncode == 0


def with_program(tar: bytes, **process: object) -> Image:
    """An image with a program."""
    config = {"architecture": HERE, "os": "linux", "config": process}
    return Image([Layer(tar)], config=json.dumps({**config, "rootfs": {"diff_ids": [sha256(tar)]}}).encode())


def test_program_of_the_last_image_that_has_one(program: ForkedProgram, tmp_path: Path) -> None:
    lower = write_archive(tmp_path / "lower.oci", with_program(LOWER, Cmd=["/lower"]))
    upper = write_archive(tmp_path / "upper.oci", with_program(TOP, Cmd=["/u"], User="7"))
    for sources, expected in (
        ((lower, upper), {"Cmd": ["/u"], "User": "7"}),
        ((upper, lower, top_directory(tmp_path / "top")), {"Cmd": ["/lower"]}),
    ):
        out = tmp_path / f"out-{len(sources)}"
        program.run("build", *sources, "-o", out).good()
        digests = json.loads((out / "index.json").read_text())["manifests"][0]["digest"]
        manifest = json.loads((out / "blobs" / digests.replace(":", "/")).read_text())
        config = json.loads((out / "blobs" / manifest["config"]["digest"].replace(":", "/")).read_text())
        assert config["config"] == expected


def test_label_of_one_archive(program: ForkedProgram, tmp_path: Path) -> None:
    """Of two archives, each with two images; the other one gives its latest."""
    for name in ("a", "b"):
        images = [
            Image([Layer(layer(file(f"etc/{name}-{ref}", ref)))], architecture=HERE, ref=ref)
            for ref in ("latest", "v2")
        ]
        write_archive(tmp_path / f"{name}.oci", *images)
    tar, one, other = tmp_path / "out.tar", tmp_path / "a.oci", tmp_path / "b.oci"
    program.run("build", one, other, "--label", f"{other}=v2", "--rootfs-output", tar).good()
    names = subprocess.run(["tar", "-tf", tar], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert sorted(name for name in names if "-" in name) == ["./etc/a-latest", "./etc/b-v2"]
    told = program.run("build", one, other, "--label", "v2", "--rootfs-output", tmp_path / "2.tar").error()
    assert "'v2' may be meant for several archives" in told


def test_layers_of_registries_are_fetched_once(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    plain.put(write_layout(tmp_path / "l", Image([Layer(LOWER), Layer(TOP)], architecture=HERE)), "os/build", "1")
    source = f"docker://{plain.host}/os/build:1"
    out = tmp_path / "out.oci"
    told = json.loads(program.run("build", source, source, "--unsecure", "-o", out, "--json").good().stdout)
    assert told["layers"] == 4
    assert told["size"] == len(LOWER) + len(TOP)


def test_what_is_there_stays(program: Program, tmp_path: Path) -> None:
    source = archive_of(tmp_path / "a.oci", LOWER)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    taken = tmp_path / "taken.oci"
    taken.write_text("mine")
    before = sorted(os.listdir(tmp_path))
    for option, path in (("-o", full), ("-o", taken), ("--rootfs-output", taken), ("--rootfs-output", full)):
        program.run("build", source, option, path).error(path)
    assert (full / "mine").read_text() == taken.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{a}", "--no-cache"), "nothing is to be made"),
        (("{a}", "--rootfs-output", "{here}/x.rar"), "has an unknown ending"),
        (("{a}", "{here}/missing.tar", "-o", "{here}/x"), "missing.tar"),
        (("{a}", "missing", "-o", "{here}/x"), "'missing' is not a file or directory"),
        (("{a}", "{text}", "-o", "{here}/x"), "is not an archive"),
        (("{a}", "{cut}", "-o", "{here}/x"), "cut.tar' is cut short"),
        (("{a}", "{here}/tree", "--key", "{key}", "-o", "{here}/x"), "tree"),
        (("{a}", "-o", "{here}/no/such/place.oci"), "place.oci"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, program: ForkedProgram, tmp_path: Path) -> None:
    a = archive_of(tmp_path / "a.oci", LOWER)
    (tmp_path / "text").write_text("a text, and no tar at all\n" * 100)
    (tmp_path / "cut.tar").write_bytes(TOP[:700])
    (tmp_path / "tree").mkdir()
    key = tmp_path / "key.pub"
    key.write_bytes(Key(tmp_path).public.pem)
    before = sorted(os.listdir(tmp_path))
    names = {"a": a, "here": tmp_path, "text": tmp_path / "text", "cut": tmp_path / "cut.tar", "key": key}
    ended = program.run("build", *(word.format(**names) for word in words))
    assert said in ended.error()
    assert sorted(os.listdir(tmp_path)) == before
