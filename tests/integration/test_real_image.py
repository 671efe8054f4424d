"""The live image of vm/build, a whole Debian: its tree, its file system on disk, and the ways to inflate it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.layouts.index.layout import index_root
from tests.lib.booted import booted
from tests.lib.erofs_images import mounted, read_by_erofs_utils
from tests.lib.fetching import fetched_archive
from tests.lib.program import Program
from tests.lib.tree_list import Line, differences, tree_list

# A Debian that is worth the name.
ENTRIES = 5_000
RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
HIDE = 'mount --bind /dev/null "$(command -v igzip)"; command -v igzip && exit 99; exec "$@"'


@pytest.fixture(scope="module")
def archive(repo: Path) -> Path:
    path = repo / "vm/out/live.oci"
    if not path.exists():
        pytest.fail(f"{path} is missing; make it with: vm/build live.oci")
    return path


@pytest.fixture(scope="module")
def wanted(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of it."""
    where = tmp_path_factory.mktemp("umoci")
    layout, bundle = where / "layout", where / "bundle"
    command = [
        "skopeo",
        "copy",
        "--quiet",
        "--insecure-policy",
        f"oci-archive:{archive}:latest",
        f"oci:{layout}:latest",
    ]
    subprocess.run(command, check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", bundle], check=True)
    tree = tree_list(bundle / "rootfs")
    subprocess.run(["rm", "-rf", bundle, layout], check=True)
    assert len(tree) > ENTRIES
    return tree


@dataclass(frozen=True)
class Index:
    """The data file with its metadata, kept."""

    path: Path
    root: BuiltRoot

    def metadata(self) -> bytes:
        """What stands in front of the layers."""
        with self.path.open("rb") as file:
            return file.read(self.root.metadata)


def made_index(archive: Path, path: Path) -> Index:
    image = fetched_archive(archive, str(archive), path)
    assert len(image.layers) >= 3
    return Index(path, index_root(image))


@pytest.fixture(scope="module")
def index(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    made = made_index(archive, tmp_path_factory.mktemp("index") / "root.erofs")
    yield made
    made.path.unlink()


def test_booted_tree(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{archive} {RO}", tmp_path) as made:
        assert not differences(wanted, tree_list(made.root))


def test_writable_parts(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    """What covers /etc and /var shows what the image has there."""
    with booted(program, f"root=bootc-live:{archive}", tmp_path) as made:
        for part, kind in (("etc", "overlay"), ("var", "tmpfs")):
            assert made.mounts[f"/{part}"].kind == kind
            below = [line for line in wanted if line.path.startswith(f"{part}/")]
            got = [line.but(path=f"{part}/{line.path}") for line in tree_list(made.root / part) if line.path != "."]
            # The first of a file's names has its place in it, too.
            got = [line if line.group == "-" else line.but(group=f"{part}/{line.group}") for line in got]
            assert len(below) > 20
            assert not differences(below, got)


def test_unpacked_tree(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    program.run("unpack", archive, tmp_path / "tree").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


@pytest.mark.long
def test_without_igzip(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    """An initramfs without isal inflates with zlib."""
    subprocess.run(["igzip", "--version"], stdout=subprocess.DEVNULL, check=True)
    zlib = Program(program.zipapp, before=["unshare", "--mount", "sh", "-ec", HIDE, "sh"])
    zlib.run("unpack", archive, tmp_path / "tree").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


def fsck(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """The checker of erofs-utils; where it says what differs between versions."""
    command = ["fsck.erofs", "-d3", *argv]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def test_fsck_accepts(index: Index) -> None:
    done = fsck(index.path)
    assert (done.returncode, "No errors found" in done.stdout) == (0, True), done.stdout


def test_fsck_is_awake(index: Index, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    # Which keeps the holes.
    subprocess.run(["cp", index.path, damaged], check=True)
    with damaged.open("r+b") as file:
        # Somewhere among the inodes.
        file.seek(index.root.metadata // 8)
        file.write(b"\xff" * 512)
    assert fsck(damaged).returncode == 1


def test_fsck_extracts_the_same(index: Index, wanted: list[Line], tmp_path: Path) -> None:
    """A second reader of the format, in user space; it restores no extended attributes."""
    tree = tmp_path / "tree"
    done = fsck(f"--extract={tree}", "--preserve", index.path)
    assert done.returncode == 0, done.stdout
    assert not differences([line.but(xattrs="-") for line in wanted], tree_list(tree))
    subprocess.run(["rm", "-rf", tree], check=True)


def test_dump_counts_the_same(index: Index, wanted: list[Line]) -> None:
    """dump.erofs, which knows nothing of us, counts the inodes that the tree has."""
    said = subprocess.run(["dump.erofs", "-s", index.path], stdout=subprocess.PIPE, text=True, check=True).stdout
    counted = next(line.split()[-1] for line in said.splitlines() if "inode count" in line.lower())
    second_names = sum(line.group not in ("-", line.path) for line in wanted)
    assert int(counted) == len(wanted) - second_names


def test_same_metadata_again(index: Index, archive: Path, tmp_path: Path) -> None:
    again = made_index(archive, tmp_path / "second")
    assert hashlib.sha256(again.metadata()).digest() == hashlib.sha256(index.metadata()).digest()


def test_mounted_twice(index: Index, wanted: list[Line], tmp_path: Path) -> None:
    """Mounting changes nothing in the file, and one file can be mounted at two places at once."""
    before = index.metadata()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    mount = index.root.mount
    with mount(str(tmp_path / "one"), ""), mount(str(tmp_path / "two"), "noatime"):
        for name in ("one", "two"):
            assert not differences(wanted, tree_list(tmp_path / name))
    assert index.metadata() == before


# The whole corpus has its turn with each of them.
@pytest.mark.parametrize(
    "compress", [pytest.param("none", marks=pytest.mark.long), "lz4", pytest.param("zstd", marks=pytest.mark.long)]
)
def test_erofs_tree(compress: str, program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    """The self-contained image, by the kernel and by erofs-utils, which restores no extended attributes."""
    image = tmp_path / "image.erofs"
    program.run("erofs", "--compress", compress, "--times", "image", archive, image).good()
    with mounted(image, tmp_path / "root") as root:
        assert not differences(wanted, tree_list(root))
    read_by_erofs_utils(image, tmp_path / "tree")
    assert not differences([line.but(xattrs="-") for line in wanted], tree_list(tmp_path / "tree"))
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


@pytest.mark.long
def test_erofs_is_the_same_everywhere(program: Program, archive: Path, tmp_path: Path) -> None:
    """A boot makes what a workstation makes, on one processor and without igzip, too."""
    made = tmp_path / "image.erofs"
    ways = {
        "again": program,
        "one": Program(program.zipapp, before=["taskset", "--cpu-list", "0"]),
        "zlib": Program(program.zipapp, before=["unshare", "--mount", "sh", "-ec", HIDE, "sh"]),
    }
    digests = set()
    for way in ways.values():
        digests.add(way.run("erofs", "--compress", "lz4", archive, made).good().stdout.split()[0])
        made.unlink()
    with booted(program, f"root=bootc-live:{archive} bootc.live.erofs bootc.live.compress=lz4", tmp_path) as root:
        digests.add(root.receipt["root"]["sha256"])
        assert {line.mtime for line in tree_list(root.root / "usr/bin")} == {"0"}
    assert len(digests) == 1
