"""Guests that start by themselves: PXE, UKIs by UEFI firmware from a disk and over HTTP, Secure Boot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.fault_files import Files
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.registry import GUEST
from tests.vm.builder import Uki, make_uki
from tests.vm.conftest import Stage
from tests.vm.inside import connect
from tests.vm.kexec import boot_kernel, common, images, source
from tests.vm.rows import FAILING
from vmkit.guest import Guest, Ready
from vmkit.network import UserNetwork
from vmkit.paths import OUT
from vmkit.start import CONSOLE, Bios

BOOT_SECONDS = 900
REFUSAL_SECONDS = 900
MEMORY = 1024
SCRIPT = """#!ipxe
kernel {url}vmlinuz initrd=initrd.img {kargs} || exit
initrd {url}initrd.img || exit
boot
"""


@dataclass(frozen=True)
class Fleet:
    """What nodes boot from: a web server, the directory that TFTP serves, a UKI, and the image's digest."""

    server: FaultServer
    tftp: Path
    uki: Uki
    digest: str

    def url(self, file: str) -> str:
        """What a guest calls a file of the web server."""
        return f"http://{GUEST}:{self.server.port}/{file}"

    def served(self, file: str) -> int:
        """How often the web server has sent a file."""
        return sum(seen.status == 200 for seen in self.server.asked(f"/{file}"))


@pytest.fixture(scope="module")
def fleet(stage: Stage) -> Iterator[Fleet]:
    """Artefacts for nodes that boot the image by digest from the registry."""
    tftp = stage.directory / "tftp"
    tftp.mkdir()
    kargs = stage.fill(
        f"{CONSOLE} {FAILING} root=bootc-live:docker://{{http}}/os/live@{{digest}} bootc.registry.unsecure"
    )
    uki = make_uki(stage.directory / "uki", kargs)
    files = {f"/{file.name}": file for file in (OUT / "vmlinuz", OUT / "initrd.img", uki.file)}
    with fault_server(Files(files)) as server:
        yield Fleet(server, tftp, uki, stage.digest)


def reached(guest: Guest, digest: str) -> Ready:
    """The guest's report, once it is in the image that it was to boot."""
    ready = guest.wait_ready(BOOT_SECONDS)
    print(f"ready after {ready.seconds:.0f} s")
    assert (ready.target, ready.failed) == ("multi-user.target", 0)
    assert (ready.receipt or {})["image"]["manifest_digest"] == digest
    return ready


@pytest.mark.long
def test_pxe_by_tftp_then_http_to_a_registry(fleet: Fleet) -> None:
    """The image has no modules for the kernel it runs under, which is a warning."""
    network = UserNetwork(tftp=fleet.tftp, file="boot.ipxe")
    with images() as served:
        kargs = f"{CONSOLE} root=bootc-live:{source(served.registry, 'latest')}"
        (fleet.tftp / "boot.ipxe").write_text(SCRIPT.format(url=fleet.url(""), kargs=common(kargs)))
        with Guest(Bios(), network=network, memory=MEMORY) as guest:
            ready = reached(guest, served.digests["latest"])
            said = f"has no modules for the running kernel {boot_kernel()}"
            assert said in guest.console()
            assert [text for text in (ready.receipt or {})["warnings"] if said in text]
            assert re.search(r"tftp://10\.0\.2\.2/boot\.ipxe\.\.\.[^\n]* ok", guest.console())
        # Twice where the server is slow to answer.
        assert fleet.served("vmlinuz") >= 1
        assert fleet.served("initrd.img") >= 1


@pytest.mark.long
def test_uki_from_a_disk_under_secure_boot(fleet: Fleet) -> None:
    with Guest(fleet.uki.machine(), memory=MEMORY) as guest:
        reached(guest, fleet.digest)
        assert "secureboot: Secure boot enabled" in guest.console()
        assert (
            connect(guest).file("/sys/kernel/security/lockdown").content_string == "none [integrity] confidentiality\n"
        )


def test_uki_that_was_tampered_with_is_refused_under_secure_boot(fleet: Fleet) -> None:
    with Guest(fleet.uki.machine(tampered=True), memory=MEMORY) as guest:
        guest.wait_console("Access Denied", REFUSAL_SECONDS)
        guest.wait_console("No bootable option or device was found", REFUSAL_SECONDS)
        assert "Linux version" not in guest.console()


@pytest.mark.long
def test_uki_over_http_by_the_firmware(fleet: Fleet) -> None:
    """The first boot of test_kexec.py starts so, too, and goes on from there."""
    with Guest(fleet.uki.fetched(fleet.url(fleet.uki.file.name)), memory=MEMORY) as guest:
        reached(guest, fleet.digest)
        assert "Start HTTP Boot over IPv4" in guest.console()
        assert fleet.served("node.efi") >= 1
