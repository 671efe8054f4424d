"""What all boots share: the artefacts of vm/build, two registries that hold the image, and the image's tree."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.lib.registry import GUEST, Registry, registry
from tests.lib.tls import make_authority, make_server
from tests.vm.builder import in_builder
from tests.vm.places import Place, credential, places
from tests.vm.rows import FAILING, Row
from vmkit.guest import Guest
from vmkit.network import UserNetwork
from vmkit.paths import OUT, REPO
from vmkit.start import Kernel

# Modules whose tests share what takes longer to make than a boot, and those whose tests share guests, one for what
# stands in brackets. All other tests share at most one guest with no one.
TOGETHER = ("test_kexec", "test_firmware", "test_loaders")
BY_GUEST = ("test_boot", "test_full")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps one comparison of the whole tree: the same index is mounted in every guest, and hashing it is slow."""
    items[:] = [item for item in items if "umoci" not in item.name or "[embedded]" in item.name]


class ByGuest(LoadScopeScheduling):  # type: ignore[misc]
    """Lets one process have all tests that share a guest."""

    def _split_scope(self, nodeid: str) -> str:
        module = Path(nodeid.partition("::")[0]).stem
        if module in TOGETHER:
            return module
        return f"{module}[{nodeid.partition('[')[2]}" if module in BY_GUEST else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByGuest:
    """Shares the tests out between processes."""
    return ByGuest(config, log)


@dataclass(frozen=True)
class Stage:
    """Where the image is to be had: hosts and ports as a guest calls them, and its digest."""

    directory: Path
    http: str
    https: str
    damaged: str
    digest: str
    closed: int
    places: dict[str, Place]

    def fill(self, text: str) -> str:
        """Puts hosts, ports and digest into a text with their names in braces."""
        names = {"http": self.http, "https": self.https, "damaged": self.damaged, "digest": self.digest}
        hosts = {name: place.host for name, place in self.places.items()}
        return text.format(**names, **hosts, closed=self.closed)

    def extra(self, row: Row) -> list[str]:
        """The QEMU options of a row."""
        options = [option for name in row.disks for option in ("-drive", _drive(self.directory / name))]
        if row.clock:
            options += ["-rtc", f"base={row.clock}"]
        if row.login:
            options += ["-smbios", f"type=11,value={credential(self.places[row.login])}"]
        return options

    def guest(self, row: Row) -> Guest:
        """The guest of a row, not started yet; its initrds are artefacts, or archives made here."""
        return Guest(
            Kernel(
                initrds=[OUT / name if (OUT / name).exists() else self.directory / name for name in row.initrds],
                append=f"{FAILING} {self.fill(row.kargs)}",
            ),
            network=UserNetwork(second=row.unplugged),
            memory=row.memory,
            extra=self.extra(row),
        )


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Two registries with the live image: over HTTP, and over HTTPS under a private authority."""
    # In the repository, which the builder root sees too.
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name, socket.socket() as closed:
        directory = Path(name)
        # Bound and not listening: nobody else can take the port.
        closed.bind(("127.0.0.1", 0))
        authority = make_authority(directory)
        server = make_server(directory, authority)
        image = f"oci-archive:{OUT / 'live.oci'}:latest"
        with (
            registry(directory / "http") as plain,
            registry(directory / "https", tls=server) as secure,
            registry(directory / "damaged") as damaged,
            places(plain, server, OUT / "live.oci") as misbehaving,
        ):
            digest = plain.push(image, "os/live:stable")
            assert secure.push(image, "os/live:stable") == damaged.push(image, "os/live:stable") == digest
            _damage_last_layer(damaged, digest)
            in_builder("tests/vm/make-disks", OUT / "live.oci", directory)
            pack(directory, "ca.cpio", "etc/bootc-live/certs.d/ca.crt", authority.certificate)
            # The certificates are younger than the initrds; this one is younger still.
            (directory / "built").write_text(f"{time.time():.0f}\n")
            pack(directory, "built.cpio", "usr/lib/bootc-live/built", directory / "built")
            yield Stage(
                directory=directory,
                http=f"{GUEST}:{plain.port}",
                https=f"{GUEST}:{secure.port}",
                damaged=f"{GUEST}:{damaged.port}",
                digest=digest,
                closed=closed.getsockname()[1],
                places=misbehaving,
            )


def _drive(disk: Path) -> str:
    kind = "if=ide,media=cdrom" if disk.suffix == ".iso" else "if=virtio"
    return f"file={disk},format=raw,readonly=on,{kind}"


def _damage_last_layer(where: Registry, digest: str) -> None:
    """Changes one bit in the middle of a layer as the registry keeps it; its length stays."""
    layer = where.blob(json.loads(where.blob(digest).read_bytes())["layers"][-1]["digest"])
    content = bytearray(layer.read_bytes())
    content[len(content) // 2] ^= 1
    layer.write_bytes(content)


def pack(directory: Path, name: str, member: str, content: Path) -> None:
    """Wraps a file as the cpio that a boot loader appends to an initrd."""
    top = directory / f"{name}.d"
    target = top / member
    target.parent.mkdir(parents=True)
    shutil.copy(content, target)
    # Directories too: the kernel makes no parents.
    members = [
        str(path.relative_to(top))
        for path in [*reversed(target.parents), target]
        if path != top and top in path.parents
    ]
    with (directory / name).open("wb") as archive:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--owner=+0:+0", "--quiet"],
            cwd=top,
            input="\n".join(members).encode(),
            stdout=archive,
            check=True,
        )


@pytest.fixture(scope="session")
def umoci_tree() -> list[str]:
    """The list of what umoci makes of the live image, one line per file (tests/lib/tree-list.sh)."""
    script = (
        "mkdir /tmp/layout"
        " && skopeo copy -q --insecure-policy oci-archive:vm/out/live.oci:latest oci:/tmp/layout:latest"
        " && umoci unpack --image /tmp/layout:latest /tmp/bundle >/dev/null"
        " && tests/lib/tree-list.sh /tmp/bundle/rootfs"
    )
    return in_builder("sh", "-c", script).splitlines()
