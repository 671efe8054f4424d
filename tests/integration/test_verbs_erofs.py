"""The erofs verb and layout: one image, the same bytes wherever and however it is made; errors leave nothing."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.archive_members import tar_of
from tests.lib.archive_servers import Stored, archive_server
from tests.lib.booted import booted
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Compression, Image, Layer, sha256, write_archive, write_layout
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.space import tmpfs
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list

MIB = 2**20
NOISE = random.Random(8)
# Small files, large ones that can be packed and ones that cannot, and more layers than there are processors.
TARS = (
    BASE,
    layer(*(file(f"usr/share/{number}", NOISE.randbytes(number * 7) + bytes(number * 90)) for number in range(500))),
    layer(file("usr/lib/big", NOISE.randbytes(MIB) + bytes(2 * MIB)), file("usr/lib/other", b"text\n" * 100_000)),
    UPPER,
)
HIDE = 'mount --bind /dev/null "$(echo /usr/lib/*/libisal.so.2)"; ! igzip --version 2>&-; exec "$@"'
PACKINGS: tuple[Compression, ...] = ("gzip", "zstd", "none")
NOUGHT = "sha256:" + "0" * 64


def image(packing: Compression = "gzip") -> Image:
    return Image([Layer(tar, packing) for tar in TARS], architecture=HERE)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("erofs") / "image.oci", image())


def made(program: Program, source: str | Path, where: Path, *options: str) -> str:
    """The digest of the file that the verb makes; the file is gone again."""
    target = where / "made.erofs"
    said = program.run("erofs", *options, source, target).good().stdout
    digest = sha256(target)
    assert said == f"{digest}  {target}\n"
    target.unlink()
    return digest


@pytest.fixture(scope="module", params=["none", "lz4", "zstd"])
def compress(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def mostly(short: str) -> pytest.MarkDecorator:
    """With one compression; with the others only if that is asked for."""
    rows = [pytest.param(name, marks=[] if name == short else pytest.mark.long) for name in ("none", "lz4", "zstd")]
    return pytest.mark.parametrize("compress", rows, indirect=True, scope="module")


@pytest.fixture(scope="module")
def wanted(compress: str, program: Program, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the image that the archive makes."""
    return made(program, archive, tmp_path_factory.mktemp("wanted"), "--compress", compress)


@mostly("lz4")
def test_same_bytes_from_every_kind_of_source(
    program: Program, archive: Path, compress: str, wanted: str, tmp_path: Path
) -> None:
    """And however the layers are compressed: the same diffIDs give the same bytes."""
    docker = tar_of(docker_members("save", Saved(TARS)))
    (tmp_path / "docker.tar").write_bytes(docker)
    (tmp_path / "docker.tar.gz").write_bytes(gzip.compress(docker, 1))
    sources: list[str | Path] = [archive, tmp_path / "docker.tar", tmp_path / "docker.tar.gz"]
    sources += [write_layout(tmp_path / packing, image(packing)) for packing in PACKINGS]
    found = {str(source): made(program, source, tmp_path, "--compress", compress) for source in sources}
    with archive_server(Stored(archive.read_bytes())) as ranges:
        found["ranges"] = made(program, ranges.url(), tmp_path, "--compress", compress)
    with archive_server(Stored(archive.read_bytes(), ranges=False)) as stream:
        found["stream"] = made(program, stream.url(), tmp_path, "--compress", compress)
    assert set(found.values()) == {wanted}, found


@mostly("none")
def test_same_bytes_from_a_registry(program: Program, tmp_path: Path, wanted: str, compress: str) -> None:
    layout = write_layout(tmp_path / "layout", image())
    with registry(tmp_path / "registry") as running:
        running.put(layout, "os", "latest")
        digest = made(program, running.source("os:latest"), tmp_path, "--unsecure", "--compress", compress)
    assert digest == wanted


BEFORE = {
    "again": (),
    "one processor": ("taskset", "--cpu-list", "0"),
    "without libisal": ("unshare", "--mount", "sh", "-ec", HIDE, "sh"),
}


@pytest.mark.parametrize("case", BEFORE)
@mostly("zstd")
def test_same_bytes_on_every_machine(
    case: str, program: Program, archive: Path, compress: str, wanted: str, tmp_path: Path
) -> None:
    other = Program(program.zipapp, before=BEFORE[case])
    assert made(other, archive, tmp_path, "--compress", compress) == wanted


def test_a_boot_makes_the_same_file(
    program: Program, archive: Path, compress: str, wanted: str, tmp_path: Path
) -> None:
    kargs = f"root=bootc-live:{archive} bootc.live.erofs bootc.live.compress={compress}"
    with booted(program, f"{kargs} bootc.live.erofs.digest={wanted}", tmp_path) as root:
        assert root.receipt["layout"] == "erofs"
        assert root.receipt["root"]["sha256"] == wanted
        assert root.receipt["root"]["size"] > 0
        assert (root.root / "etc/hostname").read_text() == "small, changed above\n"
        assert root.mounts["/"].kind == "erofs"
        assert tree_list(root.root / "usr")[0].mtime == "0"


def test_a_boot_shows_what_the_index_shows(program: Program, archive: Path, tmp_path: Path) -> None:
    kargs = f"root=bootc-live:{archive} bootc.live.etc.rw=0 bootc.live.var.rw=0"
    with booted(program, kargs, tmp_path / "index") as root:
        want = tree_list(root.root)
    more = "bootc.live.layout=erofs bootc.live.compress=lz4 bootc.live.erofs.times=image"
    with booted(program, f"{kargs} {more}", tmp_path / "erofs") as root:
        assert not differences(want, tree_list(root.root))


def test_a_writable_root(program: Program, archive: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{archive} rw bootc.live.erofs bootc.live.compress=lz4", tmp_path) as root:
        (root.root / "usr/lib/big").write_text("mine\n")
        assert (root.root / "usr/lib/big").read_text() == "mine\n"


@dataclass(frozen=True)
class Failure:
    """What is asked of the verb, and what its error says; `{archive}` and `{where}` are filled in."""

    name: str
    arguments: tuple[str, ...]
    told: tuple[str, ...]


FAILURES = (
    Failure("exists", ("{archive}", "{where}/there"), ("'{where}/there' exists",)),
    Failure("a link", ("{archive}", "{where}/dangling"), ("'{where}/dangling' exists",)),
    Failure("no directory", ("{archive}", "{where}/no/file"), ("'{where}/no/file'", "No such file or directory")),
    Failure("not a directory", ("{archive}", "{where}/there/file"), ("'{where}/there/file'", "Not a directory")),
    Failure("read-only", ("{archive}", "{where}/ro/file"), ("'{where}/ro/file'", "Read-only file system")),
    Failure("no source", ("{where}/nothing.oci", "{where}/file"), ("'{where}/nothing.oci'",)),
    Failure("no archive", ("{where}/there", "{where}/file"), ("'{where}/there'",)),
    Failure("bad digest", ("--digest", "sha256:12", "{archive}", "{where}/file"), ("'--digest sha256:12'",)),
    Failure(
        "other digest",
        ("--compress", "lz4", "--digest", NOUGHT, "{archive}", "{where}/file"),
        ("{archive}", "is required", NOUGHT, "sha256:"),
    ),
)


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name)
def test_errors_leave_nothing(row: Failure, program: Program, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine\n")
    (tmp_path / "dangling").symlink_to("nowhere")
    with tmpfs(tmp_path / "ro", "size=1M,ro"):
        before = sorted(os.walk(tmp_path))
        fill: Callable[[str], str] = lambda text: text.format(archive=archive, where=tmp_path)  # noqa: E731
        program.run("erofs", *map(fill, row.arguments)).error(*map(fill, row.told))
        assert sorted(os.walk(tmp_path)) == before
    assert (tmp_path / "there").read_text() == "mine\n"


@pytest.mark.parametrize("compress", ["none", "lz4"])
@pytest.mark.parametrize("source", ["archive", "stream"])
def test_a_full_file_system(source: str, compress: str, program: Program, archive: Path, tmp_path: Path) -> None:
    source_text = archive
    if source == "stream":
        source_text = tmp_path / "image.oci.gz"
        source_text.write_bytes(gzip.compress(archive.read_bytes(), 1))
    with tmpfs(tmp_path / "small", "size=2M") as small:
        told = program.run("erofs", "--compress", compress, source_text, small / "file").error(
            source_text, "no space left"
        )
        assert "2.0 MiB" in told
        assert "use another file system" in told
        assert list(small.iterdir()) == []


def test_a_boot_of_another_image_than_pinned(
    program: Program, archive: Path, compress: str, wanted: str, tmp_path: Path
) -> None:
    """Both digests are named, and what may be the cause."""
    (tmp_path / "root").mkdir()
    kargs = f"bootc.live.erofs bootc.live.compress={compress} bootc.live.erofs.digest={NOUGHT}"
    target: list[str | Path] = ["--sysroot", tmp_path / "root", "--receipt", tmp_path / "receipt.json"]
    ended = program.run("boot", "--cmdline", f"root=bootc-live:{archive} {kargs}", *target)
    told = ended.error(archive, wanted, f"'bootc.live.erofs.digest={NOUGHT}'")
    assert "bootc.live.compress=" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
    assert list((tmp_path / "root").iterdir()) == []


def test_missing_library(program: Program, archive: Path, tmp_path: Path) -> None:
    """An initramfs may lack what compresses: that is told before anything else is done with the layers."""
    found = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True).stdout
    (library,) = {line.split(" => ")[1] for line in found.splitlines() if line.split()[0] == "liblz4.so.1"}
    hide = ("unshare", "--mount", "sh", "-ec", f'mount --bind /dev/null {library}; exec "$@"', "sh")
    told = Program(program.zipapp, before=hide).run("erofs", "--compress", "lz4", archive, tmp_path / "file")
    assert "'bootc.live.compress=lz4' needs liblz4.so.1" in told.error()
    assert list(tmp_path.iterdir()) == []
