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
from tests.roots.initrd import HANDLERS, OURS, Initrd, build
from tests.roots.root import ALL, REPO, Root


@pytest.fixture(scope="session", params=ALL, ids=lambda root: f"dracut-{root.dracut}")
def root(request: pytest.FixtureRequest) -> Root:
    """Every root in turn; it is made at first use, which takes about a minute."""
    assert os.geteuid() == 0, "run these tests as root: they enter other root file systems"
    found: Root = request.param
    for name in {found.name, found.kernels}:
        subprocess.run([REPO / "vm" / "enter", name, "true"], stdin=subprocess.DEVNULL, check=True)
    return found


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory that this machine and the roots see at the same place."""
    path = Path(tempfile.mkdtemp(dir=REPO / "build", prefix="roots-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session", params=["systemd", "plain"])
def initrd(request: pytest.FixtureRequest, root: Root, shared: Path) -> Iterator[Initrd]:
    """An initrd with all our modules and systemd, or one with the base alone that dracut's own init runs."""
    made = build(root, shared, request.param, f"{OURS} {HANDLERS}" if request.param == "systemd" else "bootc-live")
    yield made
    shutil.rmtree(made.tree)
    made.path.unlink()


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
