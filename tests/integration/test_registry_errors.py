"""What a registry, its disk or the network can do wrong ends in one clear error, and nothing is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.oci_writer import Image, Index, Layer, sha256, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import file, layer

# Not zeros, so that half of it compressed is still half of it.
BULK = layer(file("bulk", b"".join(sha256(bytes([number])).encode() for number in range(256)) * 64))
LAYERS = [Layer(BASE), Layer(BULK), Layer(UPPER)]


@pytest.fixture(scope="module")
def top(plain: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the image's manifest; the registry has it as `os`."""
    layout = write_layout(tmp_path_factory.mktemp("image") / "layout", Image(LAYERS, architecture=HERE))
    return plain.put(layout, "os", "latest")


@contextmanager
def damaged(path: Path, change: Callable[[bytes], bytes] | None) -> Iterator[None]:
    """Changes a file of the registry, or takes it away, until the end of the block."""
    content = path.read_bytes()
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(content))
    try:
        yield
    finally:
        path.write_bytes(content)


def fails(program: Program, source: str, where: Path, *named: str) -> str:
    """The error of a boot that cannot be, which leaves nothing at its sysroot."""
    sysroot = where / "sysroot"
    sysroot.mkdir()
    # How often something is tried is the business of other tests.
    cmdline = f"root=bootc-live:{source} bootc.registry.unsecure bootc.live.retry.tries=2"
    receipt = where / "receipt.json"
    booting = program.run("boot", "--cmdline", cmdline, "--sysroot", sysroot, "--receipt", receipt)
    told = booting.error(repr(source), *named)
    assert not receipt.exists()
    assert list(sysroot.iterdir()) == []
    return told


def same_length(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def first_byte(data: bytes) -> bytes:
    return bytes([data[0] ^ 0xFF]) + data[1:]


def shorter(data: bytes) -> bytes:
    return data[:-100]


def longer(data: bytes) -> bytes:
    return data + bytes(100)


def empty(_data: bytes) -> bytes:
    return b""


@dataclass(frozen=True)
class Damage:
    """A change of a blob on the registry's disk, and how the error tells of it."""

    change: Callable[[bytes], bytes]
    told: str

    def __str__(self) -> str:
        return self.change.__name__


DAMAGES = (
    Damage(same_length, "it must be"),
    Damage(first_byte, "it must be"),
    Damage(shorter, "its manifest gives"),
    Damage(longer, "is longer than"),
    Damage(empty, "has 0 bytes"),
)


@pytest.mark.parametrize(
    ("damage", "which"), [*((damage, "bulk") for damage in DAMAGES), (DAMAGES[0], "config")], ids=str
)
def test_changed_blob(damage: Damage, which: str, program: Program, plain: Registry, top: str, tmp_path: Path) -> None:
    blobs = _blobs(plain, top)
    with damaged(plain.blob(blobs[which]), damage.change):
        told = fails(program, plain.source("os"), tmp_path, blobs[which], damage.told)
    assert "push it again" in told


def _blobs(served: Registry, digest: str) -> dict[str, str]:
    content = json.loads(served.blob(digest).read_bytes())
    first, bulk, last = (entry["digest"] for entry in content["layers"])
    return {"first": first, "bulk": bulk, "last": last, "config": content["config"]["digest"]}


@pytest.mark.parametrize("which", ["bulk", "config"])
def test_missing_blob(which: str, program: Program, plain: Registry, top: str, tmp_path: Path) -> None:
    digest = _blobs(plain, top)[which]
    with damaged(plain.blob(digest), None):
        told = fails(program, plain.source("os"), tmp_path, digest)
    assert "404" in told


@pytest.mark.parametrize("reference", ["os@{digest}", "os:latest"])
def test_changed_manifest(reference: str, program: Program, plain: Registry, top: str, tmp_path: Path) -> None:
    """Also by tag: the registry itself says which digest the answer should have."""
    path = plain.blob(top)
    with damaged(path, lambda content: content.replace(b'"schemaVersion":2', b'"schemaVersion": 2')):
        changed = sha256(path.read_bytes())
        told = fails(program, plain.source(reference.format(digest=top)), tmp_path, top, changed)
    assert "push it again" in told


def test_changed_manifest_of_an_index(program: Program, plain: Registry, top: str, tmp_path: Path) -> None:
    # The same image alone has the same manifest.
    plain.put(write_layout(tmp_path / "layout", Index([Image(LAYERS, architecture=HERE)])), "index", "latest")
    path = plain.blob(top)
    bulk = _blobs(plain, top)["bulk"].encode()
    with damaged(path, lambda content: content.replace(bulk, sha256(b"another").encode())):
        fails(program, plain.source("index"), tmp_path, top, sha256(path.read_bytes()))


def test_foreign_index(program: Program, plain: Registry, tmp_path: Path) -> None:
    images = [Image(LAYERS, architecture=name) for name in ("s390x", "mips64le")]
    images.append(Image(LAYERS, architecture=HERE, os="plan9"))
    plain.put(write_layout(tmp_path / "layout", Index(images)), "foreign", "latest")
    fails(program, plain.source("foreign"), tmp_path, f"linux/{HERE}", "linux/s390x", "linux/mips64le", f"plan9/{HERE}")


@pytest.mark.parametrize(("name", "told"), [("os:missing", "manifests/missing"), ("no/such", "v2/no/such/manifests")])
@pytest.mark.usefixtures("top")
def test_not_there(name: str, told: str, program: Program, plain: Registry, tmp_path: Path) -> None:
    assert "check the repository" in fails(program, plain.source(name), tmp_path, plain.url, told, "404")


def test_unknown_host(program: Program, tmp_path: Path) -> None:
    # The name is reserved for names that do not exist (RFC 2606).
    fails(program, "docker://registry.invalid/os", tmp_path, "registry.invalid/v2/os/manifests/latest")
