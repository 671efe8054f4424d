"""The page about PXE: every command of it, in order, and a node that boots of what they made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lib.pages import Block, blocks
from tests.lib.registry import registry
from tests.lib.tls import make_authority, make_server
from tests.vm.shell import builder_shell
from vmkit.guest import Guest
from vmkit.lan import ADDRESS, Lan
from vmkit.paths import OUT, REPO
from vmkit.start import Uefi

PAGE: Final = REPO / "docs" / "pxe.md"
NODE: Final = "A node boots"
BOOT_SECONDS: Final = 900
MEMORY: Final = 1024


def filled_registry(directory: Path) -> tuple[Path, str]:
    """What the page takes for granted: settings of a registry that has the image, and the image's digest.

    Its private authority is in authority.crt.
    """
    with registry(directory / "registry") as running:
        digest = running.push(f"oci-archive:{OUT / 'live.oci'}:latest", "os:stable")
    settings = directory / "settings.json"
    storage = {"filesystem": {"rootdirectory": str(running.storage)}}
    server = make_server(directory, make_authority(directory), names=("DNS:registry.example",))
    tls = {"certificate": str(server.certificate), "key": str(server.key)}
    http = {"addr": f"{ADDRESS}:5000", "tls": tls}
    settings.write_text(json.dumps({"version": "0.1", "storage": storage, "http": http}))
    return settings, digest


@pytest.fixture
def tmp_in_repo() -> Iterator[Path]:
    """A directory that the server sees, too."""
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        yield Path(name)


def part(page: list[Block], number: int) -> list[str]:
    """The commands before the node boots (0), and those after (1)."""
    at = next(index for index, block in enumerate(page) if block.heading == NODE)
    return [block.text for block in (page[:at], page[at:])[number]]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["begin", "whole"])
def test_page(whole: bool, tmp_in_repo: Path) -> None:
    page = blocks(PAGE.read_text())
    assert {block.language for block in page} == {"sh"}, "there is something else than commands in a block"
    settings, digest = filled_registry(tmp_in_repo)
    with Lan() as lan, builder_shell(lan.inside) as server:
        server.run(f"docker-registry serve {settings} >{tmp_in_repo}/log 2>&1 &")
        server.run(f"cp {tmp_in_repo}/authority.crt /root/registry-ca.crt")
        for commands in part(page, 0):
            print(server.run(commands))
        with Guest(Uefi(), network=lan, memory=MEMORY) as guest:
            # The manifest has come by then, from a registry that the node trusts. What follows is as in any other boot.
            guest.wait_console("fetching and verifying layers", BOOT_SECONDS)
            assert f"looking up docker://registry.example:5000/os:stable@{digest}" in guest.console()
            assert "NOT checked" not in guest.console()
            if whole:
                ready = guest.wait_ready(BOOT_SECONDS)
                assert (ready.target, ready.failed) == ("multi-user.target", 0)
                assert (ready.receipt or {})["image"]["manifest_digest"] == digest
        for commands in part(page, 1):
            print(server.run(commands))
        assert server.run("readlink /srv/http/os") == "os-1\n"
        asked = server.run("sed -n 's,.*\"GET /os\\([^ ]*\\) .* 200 -$,\\1,p' /var/log/boot-http.log").splitlines()
        # The first one is a command of the page; iPXE may ask twice where the server was slow to answer.
        assert list(dict.fromkeys(asked)) == ["/boot.ipxe", "-1/vmlinuz", "-1/initrd.img", "-1/site.cpio"]
        assert asked.count("/boot.ipxe") > 1
        sent = server.run("sed -n 's,.* sent /srv/tftp/\\(.*\\) to .*,\\1,p' /var/log/boot-dhcp.log")
        assert set(sent.splitlines()) == {"snponly.efi"}
