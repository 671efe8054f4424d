"""Boot loaders beside iPXE read what the netboot verb writes: the kernel gets the command line, and all initrds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootc_live.config.cmdline.tokens import split_cmdline
from tests.lib.boot_images import BASE, NETWORK, initramfs
from vmkit.guest import Guest
from vmkit.network import UserNetwork
from vmkit.paths import OUT, REPO, ROOTS, VM, ZIPAPP
from vmkit.start import CONSOLE, Bios

LOADERS: Final = ROOTS / "emulator"
SECONDS: Final = 480
# Blanks are what loaders treat each in its own way.
APPEND: Final = f'{CONSOLE} dyndbg="file a.c +p; file b.c +p" ignored="two words"'


@dataclass(frozen=True)
class Loader:
    """A loader: puts itself beside the directory `os` below what TFTP serves, and gives the file to begin with."""

    name: str
    install: Callable[[Path], str]


def pxelinux(tftp: Path) -> str:
    """In the directory itself, as its names count from there."""
    for file in ("usr/lib/PXELINUX/pxelinux.0", "usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(LOADERS / file, tftp / "os")
    return "os/pxelinux.0"


def grub(begin: str) -> Callable[[Path], str]:
    """GRUB whose own configuration begins ours."""

    def install(tftp: Path) -> str:
        argv: list[str | Path] = [VM / "enter", "emulator", "grub-mknetdir", f"--net-directory={tftp}", "--subdir=grub"]
        subprocess.run(argv, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        (tftp / "grub/grub.cfg").write_text(begin)
        return "grub/i386-pc/core.0"

    return install


ROWS: Final = (
    Loader("PXELINUX", pxelinux),
    Loader("GRUB, as a part of another configuration", grub("set timeout=0\nsource /os/grub.cfg\n")),
    Loader("GRUB, as the whole configuration", grub("configfile /os/grub.cfg\n")),
)


@pytest.fixture(scope="module")
def tftp() -> Iterator[Path]:
    """What TFTP serves, with the artefacts in `os`: two small initrds, for TFTP is slow."""
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        top = Path(name)
        (top / "first.img").write_bytes(initramfs(BASE, NETWORK, plain=True))
        (top / "second.img").write_bytes(initramfs(*(f"file{number}" for number in range(5000)), plain=True))
        argv: list[str | Path] = [sys.executable, ZIPAPP, "netboot", OUT / "live.oci", "--output", top / "os"]
        argv += ["--initrd", top / "first.img", "--add-initrd", top / "second.img"]
        argv += ["--url", "http://boot.example/os", "--append", APPEND]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        yield top


@pytest.mark.parametrize(
    "row", [*ROWS[:2], pytest.param(ROWS[2], marks=pytest.mark.long)], ids=[row.name for row in ROWS]
)
def test_kernel_gets_what_was_meant(row: Loader, tftp: Path) -> None:
    first = row.install(tftp)
    with Guest(Bios(), network=UserNetwork(tftp=tftp, file=first), memory=1024) as guest:
        # What was given is told long before that.
        guest.wait_console("Memory: ", SECONDS)
        said = guest.console()
    (line,) = re.findall(r"Kernel command line: (.*?)\r?$", said, re.MULTILINE)
    script = (tftp / "os/pxelinux.cfg/default").read_text()
    wanted = split_cmdline(script.partition("APPEND ")[2])
    got = [token for token in split_cmdline(line) if token.name not in ("BOOT_IMAGE", "initrd")]
    assert got == wanted
    sizes = [(tftp / "os" / name).stat().st_size for name in ("initrd.img", "second.img")]
    ((start, end),) = re.findall(r"RAMDISK: \[mem 0x(\w+)-0x(\w+)\]", said)
    assert int(end, 16) + 1 - int(start, 16) >= sum(sizes) > 2 * sizes[0]
