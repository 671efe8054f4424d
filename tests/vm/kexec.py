"""The image whose kernel is another one than that of the initrds (vm/kexec) in a registry, and guests that boot it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.fault_server import FaultServer
from tests.lib.registry import GUEST, Registry, registry
from tests.vm.images import filled
from tests.vm.rows import FAILING
from vmkit.guest import Guest
from vmkit.paths import OUT, REPO, ROOTS, VM
from vmkit.start import Kernel

ARCHIVE: Final = "kexec.oci"
NAME: Final = "os/kexec"
SMALL: Final = "kexec-small.oci"
"""The same with hardly a system in it."""
IMAGES: Final = {ARCHIVE: ("latest", "plain", "unsigned"), SMALL: ("uki",)}
MEMORY: Final = 1024


@dataclass(frozen=True)
class Images:
    """The images of the archive by tag, in a registry; `directory` is a place for files."""

    directory: Path
    registry: Registry
    digests: Mapping[str, str]

    def layers(self, tag: str) -> dict[str, int]:
        """The sizes of an image's layers by digest."""
        manifest = json.loads(self.registry.blob(self.digests[tag]).read_bytes())
        return {layer["digest"]: int(layer["size"]) for layer in manifest["layers"]}


def boot_kernel() -> str:
    """The release of the kernel that is booted first."""
    return str(json.loads((OUT / "build.json").read_text())["kver"])


def image_kernel() -> Path:
    """The kernel that the image has, as its distribution signed it."""
    (kernel,) = (ROOTS / "forky/boot").glob("vmlinuz-*")
    return kernel


@contextmanager
def images(archive: str = ARCHIVE, *, changing: bool = False) -> Iterator[Images]:
    """Brings an archive up to date and serves it; `changing` is for who pushes more."""
    subprocess.run([VM / "build", archive], stdin=subprocess.DEVNULL, check=True)
    kept = filled(archive, NAME, {tag: tag for tag in IMAGES[archive]})
    with tempfile.TemporaryDirectory(prefix="vm-kexec-", dir=REPO / "build") as name:
        directory = Path(name)
        storage = kept.copy(directory) if changing else kept.storage
        with registry(directory / "registry", storage=storage) as running:
            yield Images(directory, running, kept.digests)


def source(server: FaultServer | Registry, tag: str) -> str:
    """What `root=` calls an image in a guest."""
    return server.source(f"{NAME}:{tag}", host=GUEST)


def fetched(server: FaultServer, layers: dict[str, int]) -> set[int]:
    """How often the layers were sent; their last bytes, which tell the size, are asked for besides."""
    return {server.sent(digest) // size for digest, size in layers.items()}


def common(kargs: str) -> str:
    """Kernel arguments, and those that all these boots have."""
    return f"{FAILING} bootc.registry.unsecure {kargs}"


def guest(kargs: str, *initrds: Path) -> Guest:
    """A guest with the kernel that is booted first."""
    return Guest(Kernel(initrds=initrds or [OUT / "initrd.img"], append=common(kargs)), memory=MEMORY)
