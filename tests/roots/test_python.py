"""The zipapp runs under every Python that has to run it: 3.11 of Debian 12, 3.13 of Debian 13, 3.14 of the next."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bootc_live import __version__
from tests.lib.oci_writer import Compression, Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, layer, symlink
from tests.roots.root import REPO, Root
from tests.unit.inflate_cases import ZSTD, zstd_stream

TAR = layer(directory("d/"), file("d/a", "x" * 5000), symlink("l", "d/a"))


@pytest.fixture(scope="module")
def archive(shared: Path) -> Path:
    packing: tuple[Compression, ...] = ("gzip", "zstd", "none")
    layers = [Layer(TAR + bytes(512 * number), how) for number, how in enumerate(packing)]
    return write_archive(shared / "python.oci", Image(layers, architecture=HERE))


@pytest.mark.parametrize("isolated", [(), ("-I", "-S", "-B")])
def test_version(root: Root, zipapp: Path, isolated: tuple[str, ...]) -> None:
    assert root.run("python3", "-W", "error", *isolated, zipapp, "--version").stdout == f"bootc-live {__version__}\n"


def test_unpack(root: Root, zipapp: Path, archive: Path) -> None:
    script = '"$1" unpack "$2" /tmp/tree && cat /tmp/tree/l && readlink /tmp/tree/l'
    assert root.run("sh", "-c", script, "sh", zipapp, archive).stdout == "x" * 5000 + "d/a\n"


STREAMS = """
import hashlib, pathlib, sys
from bootc_live.base.errors import BootcLiveError
from bootc_live.system.inflate.streams import inflate
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    for step in (4096, 1 << 20):
        chunks = (data[at : at + step] for at in range(0, len(data), step))
        try:
            made = hashlib.sha256(b"".join(inflate(chunks))).hexdigest()
        except BootcLiveError as error:
            made = f"{type(error).__name__} {error.message}"
        print(path.name, made)
"""


def test_zstd(root: Root, shared: Path) -> None:
    where = shared / "zstd"
    where.mkdir(exist_ok=True)
    streams = {name: zstd_stream(name) for name in ZSTD}
    for name, stream in streams.items():
        (where / name).write_bytes(stream.data)
    script = 'PYTHONPATH="$1" python3 -W error -c "$2" "$3"'
    lines = root.run("sh", "-c", script, "sh", REPO / "pyapp", STREAMS, where).stdout.splitlines()
    assert len(lines) == 2 * len(streams)
    for line in lines:
        name, made = line.split(" ", 1)
        plain = streams[name].plain
        if plain is None:
            assert made.startswith("ImageError it is damaged: "), line
        else:
            assert made == hashlib.sha256(plain).hexdigest(), name


def test_registry_code_loads_without_a_warning(root: Root, zipapp: Path) -> None:
    done = root.run("python3", "-W", "error", zipapp, "inspect", "--unsecure", "docker://127.0.0.1:1/os", ok=False)
    assert done.returncode == 1
    assert "cannot reach http://127.0.0.1:1/v2/os/manifests/latest" in done.stderr
    assert "Connection refused" in done.stderr
    # A warning for the choice, one for each new try, and the error's two lines.
    assert len([line for line in done.stderr.splitlines() if "; trying again in " not in line]) == 3
