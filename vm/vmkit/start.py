"""What starts a guest: a kernel that QEMU loads, or the firmware of its machine, from a disk or the network."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from vmkit import emulator
from vmkit.initrd import concatenate
from vmkit.paths import OUT

CONSOLE: Final = "console=ttyS0 panic=-1 no_timer_check nohz=off highres=off"
"""For a console and an end; on a busy machine, a kernel that is emulated would take its timer for broken. A timer
that is programmed anew for every tick takes 6 % of an emulated boot."""


class Start(Protocol):
    """A machine and what it starts from."""

    def needs(self) -> list[Path]:
        """Give the files it is made of."""
        ...

    def options(self, work: Path) -> list[str]:
        """Give QEMU's options for it; files that they name may be made in the directory ``work``."""
        ...


@dataclass(frozen=True)
class Kernel:
    """A kernel with its initrds, joined as boot loaders do, and more arguments than those for console and panic."""

    file: Path = OUT / "vmlinuz"
    initrds: Sequence[Path] = ()
    append: str = ""

    def needs(self) -> list[Path]:
        """Give kernel and initrds."""
        return [self.file, *self.initrds]

    def options(self, work: Path) -> list[str]:
        """Give QEMU's options for a kernel that it loads."""
        argv = ["-kernel", str(self.file), "-append", f"{CONSOLE} {self.append}".strip()]
        if len(self.initrds) == 1:
            argv += ["-initrd", str(self.initrds[0])]
        elif self.initrds:
            concatenate(self.initrds, work / "initrd")
            argv += ["-initrd", str(work / "initrd")]
        return argv


@dataclass(frozen=True)
class Bios:
    """A BIOS that talks to ttyS0. It boots from network cards that have a ROM."""

    def needs(self) -> list[Path]:
        """Give nothing: the BIOS is a part of QEMU."""
        return []

    def options(self, work: Path) -> list[str]:  # noqa: ARG002 # nothing is made
        """Give QEMU's options for the machine."""
        return ["-machine", "pc,graphics=off"]


@dataclass(frozen=True)
class Uefi:
    """UEFI firmware, which boots ``disk`` if there is one, and the network after that.

    ``variables`` is the variable store to start with (an empty one by default); the file is not changed. ``secure``
    takes the build that knows Secure Boot; whether that is on, and for whose keys, stands in the variables. What the
    guest writes to a ``writable`` disk stays there. With ``kernel``, the firmware starts that, and not the disk.
    ``kept`` has the variables of a machine from its first start on, and the firmware has only these to choose by.
    """

    disk: Path | None = None
    variables: Path | None = None
    secure: bool = False
    writable: bool = False
    kernel: Kernel | None = None
    kept: Path | None = None

    def needs(self) -> list[Path]:
        """Give disk, variables and kernel."""
        paths = [path for path in (self.disk, self.variables) if path]
        return paths + (self.kernel.needs() if self.kernel else [])

    def options(self, work: Path) -> list[str]:
        """Give QEMU's options for the machine, its flash chips and its disk."""
        variables = self.kept or work / "variables.fd"
        if not variables.exists():
            shutil.copyfile(self.variables or emulator.uefi(emulator.VARIABLES), variables)
        code = emulator.uefi(emulator.SECURE_CODE if self.secure else emulator.CODE)
        # That build keeps its variables from the system by system management mode, and does not start without.
        argv = ["-machine", f"q35,smm={'on' if self.secure else 'off'}"]
        if self.secure:
            argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
        argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
        if self.disk:
            readonly = "off" if self.writable else "on"
            argv += ["-drive", f"file={self.disk},format=raw,if=none,id=disk,readonly={readonly}"]
            argv += ["-device", f"virtio-blk-pci,drive=disk{'' if self.kept else ',bootindex=0'}"]
        if self.kernel:
            argv += self.kernel.options(work)
        return argv
