"""Boot partitions as directories, and what a boot loader would find in them, read by other code than ours."""

from __future__ import annotations

import os
import shlex
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bootc_live.artifacts.uki import Signing, UkiParts
from bootc_live.base.errors import ImageError
from bootc_live.config.cmdline.tokens import Token, split_cmdline
from bootc_live.formats import pe
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition import files, type2
from bootc_live.landing.disk.boot_partition.grub import Grub
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from bootc_live.rootfs.boot_files.files import BootFile
from tests.unit.pe_files import pe_file

CMDLINE: Final = 'root=bootc-live:deployment:UUID=1:{}@ab dyndbg="file a.c +p; file b.c +p" quiet'


@dataclass(frozen=True)
class Started:
    """What a boot loader starts."""

    kernel: bytes
    initrd: bytes
    arguments: list[Token]


@dataclass(frozen=True)
class Style:
    """A boot loader, how to make one, and what it would start from a partition; None if that would fail.

    ``prepare`` installs as much of it as its entries need.
    """

    name: str
    make: Callable[[], BootLoader]
    starts: Callable[[Path], Started | None]
    prepare: Callable[[Path], object] = lambda boot: boot


def _best(directory: Path, ending: str) -> Path | None:
    """Sort files as the specification says, the counter first."""
    found = []
    for path in directory.glob(f"*{ending}"):
        if not path.stat().st_size:
            # No key: no entry.
            continue
        stem, _, counter = path.stem.partition("+")
        found.append((counter.partition("-")[0] != "0", [int(part) for part in stem.split("-")[2:]], path))
    return max(found)[2] if found else None


def _type1(boot: Path) -> Started | None:
    path = _best(boot / "loader/entries", ".conf")
    if path is None:
        return None
    lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    assert (lines["sort-key"], lines["version"]) == ("bootc-live", path.stem.split("-")[2])
    kernel, initrd = (boot / lines[key][1:] for key in ("linux", "initrd"))
    if not (kernel.exists() and initrd.exists()):
        return None
    return Started(kernel.read_bytes(), initrd.read_bytes(), split_cmdline(lines["options"]))


def _uki(boot: Path) -> Started | None:
    path = _best(boot / "EFI/Linux", ".efi")
    if path is None:
        return None
    data = path.read_bytes()
    try:
        found = pe.sections(lambda offset, size: data[offset : offset + size], len(data))
    except ImageError:
        return None
    kernel, initrd, cmdline = (
        data[offset : offset + size] for offset, size in (found[name] for name in (".linux", ".initrd", ".cmdline"))
    )
    return Started(kernel, initrd, split_cmdline(cmdline.decode()))


def _grub(boot: Path) -> Started | None:
    block = (boot / "EFI/debian/grubenv").read_text()
    if len(block) != 1024 or not block.startswith("# GRUB Environment Block\nbootc_live_entries="):
        return None
    words = block.splitlines()[1].partition("=")[2].split()
    best = next((word for word in words if "+0-" not in word), *words[:1])
    lines = (boot / f"bootc-live/entries/{best.partition('+')[0]}.cfg").read_text().splitlines()
    name, kernel, *arguments = shlex.split(lines[2])
    assert name == "linux"
    initrd = lines[3].removeprefix("\tinitrd /")
    # GRUB puts quotes around what has spaces.
    cmdline = " ".join(f'"{one}"' if " " in one else one for one in arguments)
    return Started((boot / kernel[1:]).read_bytes(), (boot / initrd).read_bytes(), split_cmdline(cmdline))


def _brought(boot: Path) -> Started | None:
    path = _best(boot / "loader/entries", ".conf")
    if path is None:
        return None
    lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    # Those that are made here have no version, and are in the same menu.
    assert sorted(lines) == ["efi", "sort-key", "title"]
    uki = boot / lines["efi"][1:]
    addons = list(uki.parent.glob(f"{uki.name}.extra.d/*.addon.efi"))
    if not uki.exists() or len(addons) != 1:
        return None
    found = _sections(uki.read_bytes()) | {".cmdline": _sections(addons[0].read_bytes())[".cmdline"]}
    return Started(found[".linux"], found[".initrd"], split_cmdline(found[".cmdline"].decode()))


def _sections(data: bytes) -> dict[str, bytes]:
    found = pe.sections(lambda offset, size: data[offset : offset + size], len(data))
    return {name: data[offset : offset + size] for name, (offset, size) in found.items()}


class BroughtUki(SystemdBootUki):
    """Adds UKIs that an image brings."""

    def _put(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Make a UKI of both first."""
        assert initrd is not None
        stub = b"#### LoaderInfo: systemd-stub 257.1 ####"
        sections = [(".sdmagic", stub), (".linux", kernel.read()), (".initrd", initrd.read())]
        super()._put(boot, entry, boot_file(Path(f"{kernel.path}.efi"), pe_file(sections)), None)


def build_addon(ukify: str, output: str, cmdline: str, directory: str, signing: Signing | None) -> None:  # noqa: ARG001
    """An addon without a stub."""
    Path(output).write_bytes(pe_file([(".cmdline", cmdline.encode())]))


def grub_program(prefix: str = "/EFI/debian") -> bytes:
    """A program with GRUB's records of modules: a module, and its directory."""
    records = b"".join(
        struct.pack("<II", kind, len(content) + 8) + content
        for kind, content in ((0, b"module.."), (3, prefix.encode().ljust(24, b"\0")))
    )
    return pe_file([(".text", b"x"), ("mods", struct.pack("<I4xQQ", 0x676D696D, 24, len(records) + 24) + records)])


def _prepare_grub(boot: Path) -> None:
    for name, content in (("BOOT/BOOTX64.EFI", grub_program()), ("debian/grubenv", b"")):
        (boot / "EFI" / name).parent.mkdir(parents=True, exist_ok=True)
        (boot / "EFI" / name).write_bytes(content)


def build_uki(ukify: str, output: str, parts: UkiParts, directory: str, signing: Signing | None) -> None:  # noqa: ARG001
    """A UKI without a stub."""
    (initrd,) = parts.initrds
    sections = [(".osrel", parts.os_release.encode()), (".cmdline", parts.cmdline.encode())]
    sections += [(".linux", parts.kernel.read()), (".initrd", b"".join(initrd.chunks()))]
    Path(output).write_bytes(pe_file(sections))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """UKIs that are made without ukify, and no waiting for this machine's disks."""
    for module in SYNCING:
        monkeypatch.setattr(module, "sync_filesystem", os.path.isdir)
    monkeypatch.setattr(type2, "check_tools", lambda signing: "ukify" if signing is None else "")
    monkeypatch.setattr(type2, "build_uki", build_uki)
    monkeypatch.setattr(type2, "build_addon", build_addon)


# What uses sync_filesystem.
SYNCING: Final = (files,)
STYLES: Final = (
    Style("systemd-boot", SystemdBoot, _type1),
    Style("grub", Grub, _grub, _prepare_grub),
    Style("uki", SystemdBootUki, _uki),
    Style("uki of the image", BroughtUki, _brought),
)


def boot_file(path: Path, content: bytes) -> BootFile:
    """A file with this content."""
    path.write_bytes(content)
    return BootFile(str(path), 0, len(content))


def kernel_of(number: int) -> bytes:
    return b"MZ kernel %d " % number * 1000


def initrd_of(number: int) -> bytes:
    return b"initrd %d " % number * 2000


def started(deployment: int, files: int) -> Started:
    """What is started if a deployment is, with these files."""
    return Started(kernel_of(files), initrd_of(files), split_cmdline(CMDLINE.format(deployment)))


def add(
    loader: BootLoader, boot: Path, scratch: Path, order: int, deployment: int, files: int, left: int | None = None
) -> Entry:
    """Add a deployment whose kernel and initrd have a number."""
    kernel, initrd = (scratch / f"{kind}{files}" for kind in ("kernel", "initrd"))
    entry = Entry(EntryName(order, deployment, left), f"System, deployment {deployment}", CMDLINE.format(deployment))
    return loader.add(str(boot), entry, boot_file(kernel, kernel_of(files)), boot_file(initrd, initrd_of(files)))


def leftovers(boot: Path) -> list[Path]:
    """Unfinished files, and directories of kernels that nobody uses."""
    texts = "".join(path.read_text() for path in (boot / "loader/entries").glob("*.conf"))
    found = [path for path in boot.rglob("*") if path.name.endswith(".new")]
    return found + [path for path in (boot / "bootc-live").glob("?" * 64) if path.name not in texts]
