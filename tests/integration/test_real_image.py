"""The live image of vm/build, a whole Debian: its tree, its file system on disk, and the ways to inflate it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootc_live.rootfs.layouts.index.layout import index_root
from tests.lib.booted import booted
from tests.lib.erofs_images import mounted, read_by_erofs_utils
from tests.lib.fetching import fetched_archive
from tests.lib.program import Program
from tests.lib.tree_list import Line, differences, tree_list

# A Debian that is worth the name.
ENTRIES = 4_000
RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
HIDE = 'mount --bind /dev/null "$(echo /usr/lib/*/libisal.so.2)"; ! igzip --version 2>&-; exec "$@"'


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


def test_booted_tree(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{archive} {RO}", tmp_path) as made:
        assert not differences(wanted, tree_list(made.root))


def test_unpacked_tree(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    program.run("unpack", archive, tmp_path / "tree").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


@pytest.mark.long
def test_without_libisal(program: Program, archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    """An initramfs without it inflates with zlib."""
    subprocess.run(["igzip", "--version"], stdout=subprocess.DEVNULL, check=True)
    zlib = Program(program.zipapp, before=["unshare", "--mount", "sh", "-ec", HIDE, "sh"])
    zlib.run("unpack", archive, tmp_path / "tree").good()
    assert not differences(wanted, tree_list(tmp_path / "tree"))
    subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


def test_fsck_extracts_the_same(archive: Path, wanted: list[Line], tmp_path: Path) -> None:
    """A second reader of the format, in user space; it restores no extended attributes."""
    index, tree = tmp_path / "root.erofs", tmp_path / "tree"
    index_root(fetched_archive(archive, str(archive), index))
    read_by_erofs_utils(index, tree)
    assert not differences([line.but(xattrs="-") for line in wanted], tree_list(tree))
    subprocess.run(["rm", "-rf", tree], check=True)


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
    """A boot makes what a workstation makes, on one processor and without libisal, too."""
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
