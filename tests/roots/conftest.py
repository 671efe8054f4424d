"""The roots as fixtures. These tests run on the host, as root, for each test may enter another root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.oci_writer import Compression, Image, Layer, write_archive
from tests.lib.small_image import BASE, UPPER
from tests.lib.small_image import HERE as ARCHITECTURE
from tests.lib.tar_writer import file, layer
from tests.roots.initrd import KINDS, Initrd, parameters, unpack
from tests.roots.root import ALL, BUILDER, REPO, Root


@pytest.fixture(scope="session", params=ALL, ids=str)
def every_root(request: pytest.FixtureRequest) -> Root:
    """Every root in turn; it is made at first use, which takes about a minute."""
    return _made(request.param)


@pytest.fixture(
    scope="session",
    params=[pytest.param(root, marks=pytest.mark.long if root is BUILDER else (), id=str(root)) for root in ALL],
)
def root(request: pytest.FixtureRequest) -> Root:
    """The oldest and the newest root; in the long form the one between, too, in which all other tests are."""
    return _made(request.param)


def _made(root: Root) -> Root:
    assert os.geteuid() == 0, "run these tests as root: they enter other root file systems"
    for name in {root.name, root.kernels}:
        subprocess.run([REPO / "vm" / "enter", name, "true"], stdin=subprocess.DEVNULL, check=True)
    return root


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory that this machine and the roots see at the same place."""
    path = Path(tempfile.mkdtemp(dir=REPO / "build", prefix="roots-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session", params=parameters(KINDS))
def initrd(request: pytest.FixtureRequest, shared: Path) -> Iterator[Initrd]:
    """Every initrd in turn, unpacked."""
    _made(request.param.root)
    made = unpack(request.param, shared)
    yield made
    shutil.rmtree(made.tree)


@pytest.fixture(scope="session")
def image(shared: Path) -> Path:
    """An archive with a layer of every compression."""
    packing: tuple[tuple[bytes, Compression], ...] = (
        (BASE, "gzip"),
        (UPPER, "zstd"),
        (layer(file("etc/packed", "in every way\n")), "none"),
    )
    layers = [Layer(tar, compression) for tar, compression in packing]
    return write_archive(shared / "root.oci", Image(layers, architecture=ARCHITECTURE))
