"""What all boots share: the artefacts of vm/build, two registries that hold the image, and the image's tree."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.lib.addressed import LOOPBACK
from tests.lib.name_server import name_server
from tests.lib.registry import GUEST, Registry, registry
from tests.lib.tar_writer import file, layer
from tests.lib.tls import make_authority, make_server
from tests.vm.builder import in_builder
from tests.vm.hostile import LAYERS
from tests.vm.images import filled
from tests.vm.kinds import Kind, obstacle
from tests.vm.places import CREDENTIAL, Place, credential, places
from tests.vm.rows import FAILING, Row
from tests.vm.story import story
from vmkit.base import BaseGuest
from vmkit.guest import Guest
from vmkit.namespaces import NamespaceGuest
from vmkit.network import UserNetwork
from vmkit.paths import OUT, REPO
from vmkit.start import Kernel
from vmkit.uml import UmlGuest

HERE: Final = Path(__file__).parent
NAME: Final = "registry.vm.example"
"""What the name server calls the machine that guests know as `GUEST`."""
# Modules whose tests share what takes long to make, and those whose tests share guests, one for what stands in
# brackets. All other tests share a guest with no one.
TOGETHER: Final = ("test_firmware", "test_loaders", "test_pivot_refused")
BY_GUEST: Final = ("test_boot", "test_full")


def pytest_report_header() -> list[str]:
    """Tell why rows that would do with this machine's kernel are booted in QEMU."""
    return [f"no guests in namespaces: {obstacle()}"] if obstacle() else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process have all tests that share a guest."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.group(_group(item)))


def _group(item: pytest.Item) -> str:
    if item.path.stem in TOGETHER:
        return item.nodeid.partition("::")[0]
    if item.path.stem in BY_GUEST:
        return f"{item.nodeid.partition('::')[0]}[{item.nodeid.partition('[')[2]}"
    return item.nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what its guest was doing, and how to boot that guest alone."""
    report = yield
    if report.failed and item.path.is_relative_to(HERE):
        report.sections += story(item)
    return report


@dataclass(frozen=True)
class Stage:
    """Where the image is to be had: hosts and ports as a guest calls them, and digests by tag."""

    directory: Path
    http: str
    https: str
    damaged: str
    digests: Mapping[str, str]
    closed: int
    places: dict[str, Place]
    resolver: Path

    @property
    def digest(self) -> str:
        """The digest of the image as it is."""
        return self.digests["stable"]

    def fill(self, text: str) -> str:
        """Puts hosts, ports and digest into a text with their names in braces."""
        names = {"http": self.http, "https": self.https, "damaged": self.damaged, "digest": self.digest}
        names["named"] = self.http.replace(GUEST, NAME)
        hosts = {name: place.host for name, place in self.places.items()}
        return text.format(**names, **hosts, closed=self.closed)

    def extra(self, row: Row) -> list[str]:
        """The QEMU options of a row."""
        options = [option for name in row.disks for option in ("-drive", _drive(self.directory / name))]
        if row.clock:
            options += ["-rtc", f"base={row.clock}"]
        if row.login:
            content = credential(self.places[row.login])
            options += ["-smbios", f"type=11,value=io.systemd.credential.binary:{CREDENTIAL}={_base64(content)}"]
        return options

    def guest(self, row: Row, kind: Kind) -> BaseGuest:
        """The guest of a row, not started yet; its initrds are artefacts, or archives made here."""
        start = Kernel(
            OUT / row.kernel,
            initrds=[OUT / name if (OUT / name).exists() else self.directory / name for name in row.initrds],
            append=f"{FAILING} {self.fill(row.kargs)}",
        )
        network = UserNetwork(second=row.unplugged, resolver=self.resolver if "{named}" in row.kargs else None)
        if kind is Kind.NAMESPACES:
            logins = {CREDENTIAL: credential(self.places[row.login])} if row.login else {}
            return NamespaceGuest(start, network=network, credentials=logins)
        if row.disks:
            self._make_disks()
        if kind is Kind.UML:
            disks = [self.directory / name for name in row.disks]
            return UmlGuest(start, network=network, memory=row.memory, disks=disks, clock=row.clock)
        return Guest(start, network=network, memory=row.memory, extra=self.extra(row))

    def _make_disks(self) -> None:
        if not (self.directory / "disc.iso").exists():
            in_builder("tests/vm/make-disks", OUT / "live.oci", self.directory)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """Registries with the live image: over HTTP, over HTTPS under a private authority, and one with wrong bytes."""
    # In the repository, which the builder root sees too.
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name, socket.socket() as closed:
        directory = Path(name)
        # Bound and not listening: nobody else can take the port.
        closed.bind(("127.0.0.1", 0))
        authority = make_authority(directory)
        server = make_server(directory, authority)
        changes = {"foreign": "bare", "changed": "stable"}
        stacked = {tag: (lower, [layer(file(f"etc/{tag}", tag))]) for tag, lower in changes.items()}
        image = filled(
            "live.oci",
            "os/live",
            {"stable": "latest"},
            {"hostile": ("stable", LAYERS), **stacked},
            signed=("stable", "foreign", "changed"),
            bare={"bare": "stable"},
        )
        digest = image.digests["stable"]
        with (
            registry(directory / "http", storage=image.storage) as plain,
            registry(directory / "https", tls=server, storage=image.storage) as secure,
            registry(directory / "damaged", storage=image.copy(directory)) as damaged,
            places(plain, server, OUT / "live.oci") as misbehaving,
            name_server(NAME, GUEST) as names,
        ):
            _damage_last_layer(damaged, digest)
            pack(directory, "locked.cpio", "etc/bootc-live/keys/os.pub", image.key)
            pack(directory, "bundle.cpio", "root.oci.sigstore.json", image.bundle)
            pack(directory, "ca.cpio", "etc/bootc-live/certs.d/ca.crt", authority.certificate)
            # The certificates are younger than the initrds; this one is younger still.
            (directory / "built").write_text(f"{time.time():.0f}\n")
            pack(directory, "built.cpio", "usr/lib/bootc-live/built", directory / "built")
            (directory / "resolv.conf").write_text(f"nameserver {names}\n")
            yield Stage(
                directory=directory,
                http=f"{GUEST}:{plain.port}",
                https=f"{GUEST}:{secure.port}",
                damaged=f"{GUEST}:{damaged.port}",
                digests=image.digests,
                closed=closed.getsockname()[1],
                places=misbehaving,
                resolver=directory / "resolv.conf",
            )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


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
def umoci_tree(stage: Stage) -> Callable[[str], list[str]]:
    """What gives the list of what umoci makes of the image with a tag, one line per file (tests/lib/tree-list.sh)."""

    @cache
    def made(tag: str) -> list[str]:
        source = f"docker://{stage.http.replace(GUEST, LOOPBACK)}/os/live:{tag}"
        script = (
            f"skopeo copy -q --insecure-policy --src-tls-verify=false {source} oci:/tmp/layout:latest"
            " && umoci unpack --image /tmp/layout:latest /tmp/bundle >/dev/null"
            " && tests/lib/tree-list.sh /tmp/bundle/rootfs"
        )
        return in_builder("sh", "-c", script).splitlines()

    return made
