"""The unpack verb: where it may write, and what it leaves where it fails."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.private_mounts import workspaces
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE, UPPER, small_image
from tests.lib.space import tmpfs
from tests.lib.tar_writer import file, layer, node, sparse_pax
from tests.lib.tree_list import Line, differences, tree_list


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of the small image."""
    where = tmp_path_factory.mktemp("umoci")
    layout = write_layout(where / "layout", small_image())
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", where / "bundle"], check=True)
    return tree_list(where / "bundle/rootfs")


def names(where: Path) -> list[str]:
    """What is in a directory, hidden files too."""
    return sorted(os.listdir(where))


def test_new_directory(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    program.run("unpack", small, tmp_path / "tree").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    assert names(tmp_path) == ["tree"]


def test_relative_names(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    (tmp_path / "small.oci").symlink_to(small)
    program.run("unpack", "small.oci", "tree/", "--workdir", ".", cwd=tmp_path).good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    assert names(tmp_path) == ["small.oci", "tree"]


def test_empty_directory(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o700)
    program.run("unpack", small, tree).good()
    assert not differences(wanted, tree_list(tree))
    assert names(tmp_path) == ["tree"]


def test_mount_point(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    """An empty disk that somebody mounted to put a tree on."""
    with tmpfs(tmp_path / "disk") as disk:
        program.run("unpack", small, disk).good()
        assert not differences(wanted, tree_list(disk))


def test_current_directory(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    program.run("unpack", small, ".", cwd=tmp_path).good()
    assert not differences(wanted, tree_list(tmp_path))


def test_only_root(nobody: Program, small: Path) -> None:
    place = Path("/tmp/unpack-as-nobody")
    place.mkdir()
    place.chmod(0o777)
    try:
        readable = place / "small.oci"
        readable.write_bytes(small.read_bytes())
        nobody.run("unpack", readable, place / "tree").error("needs root")
        nobody.run("boot", "--cmdline", f"root=bootc-live:{readable}", "--sysroot", place).error("needs root")
        assert names(place) == ["small.oci"]
        nobody.run("inspect", readable).good()
    finally:
        shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["file", "full", "link", "dangling"])
def test_target_in_the_way(kind: str, program: Program, small: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        target.write_text("mine")
    elif kind == "full":
        (target / "sub").mkdir(parents=True)
    else:
        target.symlink_to(other if kind == "link" else "nowhere")
    before = tree_list(tmp_path)
    told = program.run("unpack", small, target).error(repr(str(target)))
    assert "new directory" in told
    assert not differences(before, tree_list(tmp_path))


@pytest.mark.parametrize("target", ["/nowhere/tree", "/proc/1/tree", "/sys/tree"])
def test_target_that_cannot_be(target: str, program: Program, small: Path) -> None:
    program.run("unpack", small, target).error(repr(target))


@pytest.mark.parametrize("there", [True, False], ids=["empty", "new"])
def test_target_on_a_read_only_file_system(there: bool, program: Program, small: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        target = disk / "tree"
        if there:
            target.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        program.run("unpack", small, target).error(repr(str(target)))


@pytest.mark.parametrize("where", ["mount point", "empty", "new"])
def test_full_target(where: str, program: Program, tmp_path: Path) -> None:
    """Half a tree is no tree: it is taken away again."""
    big = Layer(BASE), Layer(_big(2**21))
    archive = write_archive(tmp_path / "image.oci", Image(big, architecture=HERE))
    with tmpfs(tmp_path / "disk") as disk:
        target = disk if where == "mount point" else disk / "tree"
        if where == "empty":
            target.mkdir()
        told = program.run("unpack", archive, target).error(repr(str(target)), "No space left on device")
        assert "free space there" in told
        assert names(disk) == (["tree"] if where == "empty" else [])
        assert where == "new" or names(target) == []


def test_wrong_image_changes_nothing(program: Program, tmp_path: Path) -> None:
    layers = [Layer(BASE), Layer(UPPER, diff_id="sha256:" + "0" * 64)]
    archive = write_archive(tmp_path / "image.oci", Image(layers, architecture=HERE))
    (tmp_path / "there").mkdir()
    for target in ("there", "new"):
        told = program.run("unpack", archive, tmp_path / target).error(archive, "sha256:" + "0" * 64)
        assert "layer 1" in told
    assert names(tmp_path) == ["image.oci", "there"]
    assert names(tmp_path / "there") == []


def test_holes_stay_holes(program: Program, tmp_path: Path) -> None:
    """Two bytes of sixty gigabytes are two blocks of a disk, and take no time."""
    size = 60 * 10**9
    big = layer(sparse_pax("big", size, [(7, b"a"), (size - 1, b"z")]), sparse_pax("none", size, []))
    archive = write_archive(tmp_path / "image.oci", Image([Layer(BASE), Layer(big)], architecture=HERE))
    program.run("unpack", archive, tmp_path / "tree").good()
    found = (tmp_path / "tree/big").stat()
    assert (found.st_size, (tmp_path / "tree/none").stat().st_blocks) == (size, 0)
    assert found.st_blocks * 512 <= 2**17
    with (tmp_path / "tree/big").open("rb") as file_:
        assert file_.read(9) == bytes(7) + b"a\0"
        file_.seek(size - 2)
        assert file_.read() == b"\0z"


def test_nothing_stays_of_a_deep_tree(program: Program, tmp_path: Path) -> None:
    """Deeper than Python's own removal goes; what cannot be made comes last."""
    deep = layer(file("d/" * 2000 + "f", "x"), node("n", "char", 5000, 0))
    archive = write_archive(tmp_path / "image.oci", Image([Layer(BASE), Layer(deep)], architecture=HERE))
    there = tmp_path / "there"
    there.mkdir(mode=0o751)
    for target in (there, tmp_path / "new"):
        assert "is the device 5000:0" in program.run("unpack", archive, target).error(archive, repr(str(target)))
    assert names(tmp_path) == ["image.oci", "there"]
    assert names(there) == []
    assert there.stat().st_mode & 0o7777 == 0o751


def test_nothing_stays_of_many_names(program: Program, tmp_path: Path) -> None:
    """More of them than the arguments of a program may be long, and such that look like its options."""
    many = layer(*(file(f"-{number:05}{'n' * 240}", "") for number in range(12000)), node("z", "char", 5000, 0))
    archive = write_archive(tmp_path / "image.oci", Image([Layer(many)], architecture=HERE))
    there = tmp_path / "there"
    there.mkdir()
    assert "is the device 5000:0" in program.run("unpack", archive, there).error(archive, repr(str(there)))
    assert names(there) == []


@pytest.mark.parametrize(("uid_mode", "devices"), [(0o4755, 2), (0o2755, 0), (0o755, 0)])
def test_what_works_as_root_is_told(uid_mode: int, devices: int, program: Program, tmp_path: Path) -> None:
    """It is the image's tree; whoever unpacks it is told what others could do with it."""
    kinds: list[Literal["char", "block"]] = ["char", "block"]
    nodes = [node(f"n{number}", kind, 1, 3) for number, kind in enumerate(kinds[:devices])]
    more = layer(file("program", "x", mode=uid_mode), *nodes)
    archive = write_archive(tmp_path / "image.oci", Image([Layer(more)], architecture=HERE))
    told = program.run("unpack", archive, tmp_path / "tree").good().stderr
    rights = int(uid_mode != 0o755)
    line = f"the tree has {rights} set-uid or set-gid files and {devices} devices, chosen by the image's author"
    assert (line in told) == bool(rights or devices)
    assert (tmp_path / "tree/program").stat().st_mode & 0o7777 == uid_mode


def test_an_empty_directory_that_another_fills(program: Program, small: Path, tmp_path: Path) -> None:
    """What the other made is not taken away, whoever is the first to end."""
    tree = tmp_path / "tree"
    tree.mkdir()
    held = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        told = program.run("unpack", small, tree).error(f"another program is unpacking to {str(tree)!r}")
    finally:
        os.close(held)
    assert "name a new directory" in told
    assert names(tree) == []


def test_two_at_once(program: Program, small: Path, wanted: list[Line], tmp_path: Path) -> None:
    """The second one must not see, nor take away, what the first one works in."""
    big = write_archive(tmp_path / "big.oci", Image([Layer(BASE), Layer(_big(2**27), "none")], architecture=HERE))
    while not _while_first_works(program, big, small, tmp_path):
        # This process saw nothing of the first one's work: others had the processors.
        shutil.rmtree(tmp_path / "big")
    assert not differences(wanted, tree_list(tmp_path / "small"))
    assert (tmp_path / "big/big").stat().st_size == 2**27


def _while_first_works(program: Program, big: Path, small: Path, tmp_path: Path) -> bool:
    with program.started("unpack", big, tmp_path / "big", log=tmp_path / "log") as first:
        while not any(path.name == "layers" for path in workspaces(first.pid)):
            if first.poll() is not None:
                assert first.wait() == 0, (tmp_path / "log").read_text()
                return False
        # However slow the second one is: the first one waits.
        os.killpg(first.pid, signal.SIGSTOP)
        program.run("unpack", small, tmp_path / "small").good()
        os.killpg(first.pid, signal.SIGCONT)
        assert first.wait(120) == 0, (tmp_path / "log").read_text()
    return True


def _big(size: int) -> bytes:
    return layer(file("big", os.urandom(2**16) * (size // 2**16)))
