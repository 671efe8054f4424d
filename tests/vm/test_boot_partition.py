"""Boot loaders on a disk, behind UEFI firmware with Secure Boot: what starts, counting of tries, and falling back."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootc_live.config.cmdline.tokens import split_cmdline
from tests.lib.boot_images import kernel_layer
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE
from tests.vm.builder import change_boot_partition as entries
from tests.vm.builder import in_builder
from vmkit import emulator
from vmkit.guest import Guest
from vmkit.paths import OUT, REPO, VM, ZIPAPP
from vmkit.start import Uefi

SECONDS: Final = 480
# No init: what the kernel was given is all there is to see, and it restarts by itself.
APPEND: Final = 'console=ttyS0 panic=-1 rdinit=/nothing dyndbg="file a.c +p; file b.c +p" ignored=$HOME;#'
STYLES: Final = ("systemd-boot", "grub", "uki")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Seen by the builder root, too."""
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        yield Path(name)


@dataclass(frozen=True)
class KeptUefi(Uefi):
    """A machine whose firmware keeps what is written to its variables, in that file."""

    def options(self, work: Path) -> list[str]:
        """Name the file in the place of a copy."""
        return [option.replace(f"{work}/variables.fd", str(self.variables)) for option in super().options(work)]


def booted(directory: Path, style: str, variables: Path | None = None) -> int:
    """Boot it once, and return the deployment."""
    own = directory / "secure.fd" if style in ("uki", "brought") else emulator.uefi(emulator.VENDOR_VARIABLES)
    variables = variables or own
    start = Uefi(disk=directory / "boot.img", variables=variables, secure=True, writable=True)
    with Guest(start, memory=512) as guest:
        guest.wait_console("Freeing initrd memory:", SECONDS)
        guest.wait_exit(SECONDS)
        said = guest.console()
    assert "Secure boot enabled" in said
    (line,) = re.findall(r"Kernel command line: (.*?)\r?$", said, re.MULTILINE)
    assert ("of=vendor" in line) == (style == "brought")
    others = ("BOOT_IMAGE", "initrd", "of")
    deployment, *rest = [token for token in split_cmdline(line) if token.name not in others]
    assert rest == split_cmdline(APPEND)
    return int(deployment.value or 0)


@pytest.mark.long
@pytest.mark.parametrize("style", [*STYLES, "brought"])
def test_tries_are_counted_and_end_at_the_deployment_before(style: str, directory: Path) -> None:
    assert entries(directory, style, "install") == []
    assert entries(directory, style, "add", "1", "1", "0", f"deployment=1 {APPEND}") == ["1-1"]
    assert entries(directory, style, "add", "2", "2", "2", f"deployment=2 {APPEND}") == ["2-2+2", "1-1"]
    assert booted(directory, style) == 2
    assert entries(directory, style) == ["2-2+1-1", "1-1"]
    assert booted(directory, style) == 2
    assert entries(directory, style) == ["1-1", "2-2+0-2"]
    assert booted(directory, style) == 1
    assert entries(directory, style) == ["1-1", "2-2+0-2"]
    # Somebody repairs it.
    assert entries(directory, style, "bless", "2") == ["2-2", "1-1"]
    assert entries(directory, style, "promote", "1", "3") == ["3-1", "2-2"]
    assert booted(directory, style) == 1
    assert entries(directory, style, "promote", "2", "4") == ["4-2", "3-1"]
    assert booted(directory, style) == 2


@pytest.mark.long
def test_systemd_boot_enrols_keys(directory: Path) -> None:
    """In firmware that has none, as that of a new virtual machine; it restarts, and Secure Boot is on then."""
    entries(directory, "brought", "install")
    entries(directory, "brought", "add", "1", "1", "0", f"deployment=1 {APPEND}")
    entries(directory, "brought", "enrol")
    variables = directory / "kept.fd"
    shutil.copyfile(emulator.uefi(emulator.VARIABLES), variables)
    start = KeptUefi(disk=directory / "boot.img", variables=variables, secure=True, writable=True)
    with Guest(start, memory=512) as guest:
        guest.wait_exit(SECONDS)
        said = guest.console()
    assert "Enrolling secure boot keys" in said
    assert "Kernel command line" not in said
    assert booted(directory, "brought", variables) == 1


@pytest.mark.long
@pytest.mark.parametrize("style", STYLES)
def test_kernel_in_a_partition_of_its_own(style: str, directory: Path) -> None:
    """Firmware finds the boot loader on one partition, and that the kernel on another one."""
    image = Image(
        [Layer(tar) for tar in (BASE, kernel_layer(kernel=(OUT / "vmlinuz").read_bytes()))], architecture=HERE
    )
    source, disk = write_archive(directory / "image.oci", image), directory / "disk"
    argv: list[str | Path] = [
        ZIPAPP,
        "install",
        "to-disk",
        disk,
        "--size",
        "1G",
        "--xbootldr",
        "300M",
        "--source",
        source,
    ]
    kargs = [f"--karg={word}" for word in ("console=ttyS0", "panic=-1", "rdinit=/nothing")]
    in_builder(*argv, "--bootloader", style, *kargs)
    with Guest(Uefi(disk=disk), memory=512) as guest:
        guest.wait_exit(SECONDS)
        assert re.search("Kernel command line: .* root=bootc-live:deployment:UUID=[^ ]*:1@", guest.console())


@pytest.mark.long
@pytest.mark.parametrize(("damaged", "started"), [("", {1}), ("/EFI/debian/grubenv", {1, 2})], ids=str)
def test_damage_does_not_end_the_boot_by_grub(damaged: str, started: set[int], directory: Path) -> None:
    """A kernel that cannot be loaded, and an environment block that names nothing: then, any entry is started."""
    entries(directory, "grub", "install")
    for number in ("1", "2"):
        entries(directory, "grub", "add", number, number, "0", f"deployment={number} {APPEND}")
    entries(directory, "grub", "damage", damaged)
    assert booted(directory, "grub") in started


@pytest.mark.long
@pytest.mark.parametrize("style", STYLES)
def test_power_cuts_with_the_real_fat(style: str, directory: Path) -> None:
    """Under User-mode Linux, whose kernel writes what it has written in its own order."""
    disk = directory / "boot.img"
    in_builder("mkfs.vfat", "-s", "4", "-C", disk, "49152")
    path = f"PYTHONPATH={sysconfig.get_path('purelib')}:{REPO}/pyapp:{REPO}/vm:{REPO}"
    argv: list[str | Path] = [
        VM / "enter",
        "forky",
        "env",
        path,
        "python3",
        "-m",
        "tests.vm.fat_cuts",
        "drive",
        style,
        disk,
        "15",
    ]
    done = subprocess.run(argv, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
