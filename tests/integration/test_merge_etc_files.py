"""The parts of merging /etc that need root: owners, attributes, labels, devices, and a disk that is full."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.disk.merge_etc import SUFFIX, changes, merged_etc
from tests.lib.etc_trees import make_tree, show_tree
from tests.lib.space import tmpfs

LABEL, ATTRIBUTE = "security.selinux", "trusted.test"


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[list[Path]]:
    """Three equal trees and the path of the result, on one file system."""
    with tmpfs(tmp_path / "ram", "size=4M") as ram:
        names = [ram / name for name in ("old", "new", "local")]
        for name in names:
            make_tree(name, "f=1 d/f=2 l>f")
        yield [*names, ram / "made"]


def merge(trees: list[Path]) -> list[str]:
    """Merge them; the paths with conflicts."""
    with merged_etc(*map(str, trees)) as report:
        assert not report.warnings
        return [conflict.path for conflict in report.conflicts]


def owner(number: int) -> Callable[[Path], None]:
    return lambda path: os.chown(path, number, 2 * number, follow_symlinks=False)


def attribute(name: str, value: bytes) -> Callable[[Path], None]:
    return lambda path: os.setxattr(path, name, value, follow_symlinks=False)


def access(rule: str) -> Callable[[Path], None]:
    def set_access(path: Path) -> None:
        subprocess.run(["setfacl", "-m", rule, path], check=True)

    return set_access


def described(path: Path) -> tuple[object, ...]:
    """Owner, mode, and attributes of a file."""
    status = path.lstat()
    names = os.listxattr(path, follow_symlinks=False)
    values = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    return status.st_uid, status.st_gid, status.st_mode, values


# How one of two sides changes something without changing its data, in two ways.
WAYS = {
    "owner": (owner(5), owner(6)),
    "attribute": (attribute(ATTRIBUTE, b"1"), attribute(ATTRIBUTE, b"2")),
    "access list": (access("u:5:rwx"), access("u:6:rwx")),
    "special bits": (lambda path: path.chmod(0o6755), lambda path: path.chmod(0o2755)),
}


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (way, name)
        for way in WAYS
        for name in ("f", "d", "d/f", "l", ".")
        if name != "l" or way in ("owner", "attribute")
    ],
)
def test_changed_on_one_side_and_on_both(way: str, name: str, trees: list[Path]) -> None:
    old, new, local, made = trees
    one, other = WAYS[way]
    one(local / name)
    assert list(changes(str(old), str(local))) == ([] if name == "." else [("M", name)])
    assert not merge(trees)
    assert described(made / name) == described(local / name)
    subprocess.run(["rm", "-r", made], check=True)
    # The same, as seen from the other side.
    assert not merge([old, local, new, made])
    assert described(made / name) == described(local / name)
    subprocess.run(["rm", "-r", made], check=True)
    other(new / name)
    assert merge(trees) == [name]
    assert described(made / name) == described(local / name)
    if (made / f"{name}{SUFFIX}").exists():
        assert described(made / f"{name}{SUFFIX}") == described(new / name)
    assert (made / f"{name}{SUFFIX}").exists() == (name not in ("d", "."))


def test_default_access_of_a_directory_does_not_spread(trees: list[Path]) -> None:
    access("d:u:5:rwx")(trees[1] / "d")
    assert not merge(trees)
    assert described(trees[3] / "d") == described(trees[1] / "d")
    assert described(trees[3] / "d/f") == described(trees[1] / "d/f")


# Labels of the old image, the new image and this machine; what is changed in the file; the label of the result.
LABELS = {
    "follows the image": ("a", "b", "a", "", "b"),
    "follows the image with new data": ("a", "b", "a", "new", "b"),
    "follows the image though data was changed here": ("a", "b", "a", "local", "b"),
    "was changed here": ("a", "a", "c", "", "c"),
    "was changed on both sides": ("a", "b", "c", "", "c"),
    "the image gets labels": ("", "b", "", "local", "b"),
    "the image loses labels": ("a", "", "a", "", "a"),
    "only here": ("", "", "c", "new", "c"),
    "only here, then there as well": ("", "b", "c", "new", "c"),
}


@pytest.mark.parametrize("name", ["f", "d", "d/f", "l"])
@pytest.mark.parametrize("row", LABELS)
def test_labels(row: str, name: str, trees: list[Path]) -> None:
    *labels, changed, expected = LABELS[row]
    for tree, label in zip(trees, labels, strict=False):
        if label:
            attribute(LABEL, label.encode())(tree / name)
        if tree.name == changed and name != "l":
            (tree / "f").write_text("2")
            (tree / "d/f").write_text("3")
    assert not merge(trees)
    assert os.getxattr(trees[3] / name, LABEL, follow_symlinks=False) == expected.encode()


def test_labels_of_accounts(trees: list[Path]) -> None:
    for tree, shell, label in zip(trees, ("a:x:1::", "a:x:1:b:", "a:x:1::c"), (b"1", b"2", b"1"), strict=False):
        (tree / "passwd").write_text(shell)
        attribute(LABEL, label)(tree / "passwd")
        owner(3)(tree / "passwd")
    assert not merge(trees)
    assert (trees[3] / "passwd").read_text() == "a:x:1:b:c\n"
    assert described(trees[3] / "passwd") == described(trees[1] / "passwd")


def test_labels_are_no_changes(trees: list[Path]) -> None:
    for name in ("f", "d", "d/f", "l"):
        attribute(LABEL, b"c")(trees[2] / name)
    assert not list(changes(str(trees[0]), str(trees[2])))


def test_attributes_of_one_inode_stay_there(trees: list[Path]) -> None:
    attribute("trusted.overlay.origin", b"x")(trees[2] / "d")
    assert not list(changes(str(trees[0]), str(trees[2])))
    (trees[2] / "d").chmod(0o700)
    assert not merge(trees)
    assert described(trees[3] / "d") == (0, 0, stat.S_IFDIR | 0o700, {})


def test_file_system_without_attributes_gives_one_warning(trees: list[Path], tmp_path: Path) -> None:
    for name in ("f", "d"):
        attribute(ATTRIBUTE, b"1")(trees[2] / name)
    where = tmp_path / "plain"
    where.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", where], check=True)
    try:
        with merged_etc(*map(str, [*trees[:3], where / "etc"])) as report:
            assert report.warnings == [f"the attribute {ATTRIBUTE} cannot be stored on this file system"]
            assert show_tree(where / "etc") == show_tree(trees[2])
    finally:
        subprocess.run(["umount", where], check=True)


def test_special_files_are_left_out(trees: list[Path]) -> None:
    old, new, local, made = trees
    os.mknod(local / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(local / "d/fifo")
    os.mknod(new / "of-the-image", stat.S_IFBLK | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(local / "socket"))
    with merged_etc(*map(str, trees)) as report:
        assert show_tree(made) == show_tree(old)
        assert report.warnings == [
            f"/etc/{name} is a socket, FIFO or device, and is left out" for name in ("device", "socket", "d/fifo")
        ]
    assert not list(changes(str(old), str(local)))


@pytest.mark.parametrize("limit", ["nr_inodes", "size"])
def test_full_disk_gives_one_error_and_leaves_nothing(limit: str, trees: list[Path], tmp_path: Path) -> None:
    for tree in trees[:3]:
        (tree / "large").write_bytes(bytes(10_000) + tree.name.encode())
    refused: list[tuple[str, bool]] = []
    # At every step, until there is enough.
    for count in range(2, 60):
        value = f"{limit}={count * (1 if limit == 'nr_inodes' else 4096)}"
        with tmpfs(tmp_path / f"small-{count}", value) as small:
            target = small / "etc"
            try:
                with merged_etc(*map(str, [*trees[:3], target])):
                    assert (target / "large").read_bytes() == (trees[2] / "large").read_bytes()
                    break
            except LandingError as error:
                refused.append((error.message.lower(), target.exists()))
    assert 4 < len(refused) < 50
    assert all("no space" in message and not left for message, left in refused)
