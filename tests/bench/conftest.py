"""Benchmarks run inside the builder root: curl, igzip, docker-registry and the rest are those of Debian 13."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.formats.oci.descriptor import Descriptor
from tests.lib.bench_plugin import figures, pytest_configure, pytest_terminal_summary
from tests.lib.bench_root import run
from tests.lib.program import Program
from tests.lib.registry import Registry, registry

MIB = 1024 * 1024
__all__ = ["figures", "pytest_configure", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def live(repo: Path) -> Path:
    """The real image, as an archive."""
    return repo / "vm/out/live.oci"


@pytest.fixture(scope="session")
def served(live: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A docker-registry with the real image as os/live:1."""
    with registry(tmp_path_factory.mktemp("served")) as running:
        running.push(f"oci-archive:{live}:latest", "os/live:1")
        yield running


@pytest.fixture(scope="session")
def server(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A docker-registry with an image of the size people have, as os/server:1, and with zstd:chunked as :zstd."""
    with registry(tmp_path_factory.mktemp("server")) as running:
        image = f"oci-archive:{repo / 'vm/out/server.oci'}:latest"
        running.push(image, "os/server:1")
        # Layers that are compressed already would stay as they are.
        plain = tmp_path_factory.mktemp("plain")
        run("skopeo", "copy", "--quiet", "--insecure-policy", "--dest-decompress", image, f"dir:{plain}")
        running.push(f"dir:{plain}", "os/server:zstd", "--dest-compress-format", "zstd:chunked")
        shutil.rmtree(plain)
        yield running


@pytest.fixture(scope="session")
def program(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program as an initramfs has it, compiled; a new process for every run."""
    root = tmp_path_factory.mktemp("frozen")
    Program(zipapp).run("freeze", root, "net", "registry").good()
    return Program(root / "usr/lib/bootc-live/bootc-live.pyz")


@pytest.fixture(scope="session")
def blob(served: Registry) -> Descriptor:
    """A blob of 400 MiB that nothing can compress, in the repository os/live."""
    content = b"".join(random.Random(number).randbytes(MIB) for number in range(400))
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    link(served, "os/live", digest)
    path = served.blob(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return Descriptor("application/octet-stream", digest, len(content))


def link(where: Registry, repository: str, digest: str) -> None:
    """Says that a repository has a blob, as docker-registry's storage does."""
    algorithm, _, encoded = digest.partition(":")
    layers = where.storage / "docker/registry/v2/repositories" / repository / "_layers" / algorithm / encoded
    layers.mkdir(parents=True)
    (layers / "link").write_text(digest)


def layer_digests(where: Registry, repository: str, tag: str = "1") -> list[str]:
    """The digests of the layers of an image, base first."""
    tags = where.storage / "docker/registry/v2/repositories" / repository / "_manifests/tags"
    manifest = json.loads(where.blob((tags / tag / "current/link").read_text()).read_bytes())
    return [entry["digest"] for entry in manifest["layers"]]


@pytest.fixture(scope="session")
def layers(served: Registry) -> list[Path]:
    """The files of the real image's layers, as the registry keeps them."""
    return [served.blob(digest) for digest in layer_digests(served, "os/live")]


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The name for a data file."""
    path = tmp_path / "data"
    yield path
    shutil.rmtree(tmp_path)
