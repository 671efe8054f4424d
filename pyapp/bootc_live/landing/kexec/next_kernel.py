"""What the next kernel can do: how much may be handed over to it, and what it will say to its arguments."""

from __future__ import annotations

import os

from bootc_live.base.errors import ConfigError, LandingError, OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Config
from bootc_live.config.source_spec import ArchiveFile
from bootc_live.image.size.estimate import estimate
from bootc_live.image.verified import ResolvedImage
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import unpacked_size
from bootc_live.rootfs.memory.admitting import present_means
from bootc_live.rootfs.memory.choose import candidates, least
from bootc_live.rootfs.memory.machine import machine_room, whole_machine
from bootc_live.rootfs.memory.need import memory_need
from bootc_live.source.interface import AnySource
from bootc_live.system.memory import available_bytes, total_bytes

# What kernel, initramfs and this program take beside the blobs, at their largest.
_BESIDE = 192 * 2**20
# What the next kernel needs for itself, for an initramfs of usual size, packed and unpacked, and to begin its work.
_NEXT = 320 * 2**20
# The same without the initramfs.
_NEXT_ALONE = 192 * 2**20
# An initramfs is measured where one that unpacks to so many times its size might not do.
_OFTEN_UNPACKED = 12
# No file may be larger for kexec_file_load(2), and none in a cpio; kernel and initramfs are to go in there, too.
_MOST = 4 * 2**30 - 512 * 2**20
# A kernel refuses longer command lines (COMMAND_LINE_SIZE of x86 and arm64).
_LONGEST = 2047


class HandoverRoom:
    """How much of an image may be handed over in memory, once ``look`` knows it."""

    def __init__(self, config: Config) -> None:
        """``config`` says what root the next kernel will make, and where images come from."""
        self._config = config
        self._archives = {spec.typed for spec in config.sources if isinstance(spec, ArchiveFile)}
        self._root = 0
        self._whole = False

    def look(self, source: AnySource, image: ResolvedImage) -> None:
        """Look how much memory the root of an image will take, at the least; see ``image.admit.Admit``."""
        config = self._config
        content = least(estimate(source, image))
        possible = candidates(config.layout, config.compress, present_means(), config.backing.zram).ways
        self._root = min(memory_need(way, content).memory for way in possible)
        self._whole = source.typed in self._archives

    def whole(self) -> bool:
        """Tell whether the next kernel can have the image from nowhere else: its archive is in this initramfs."""
        return self._whole

    def bytes(self) -> int:
        """Give how many bytes of blobs.

        This kernel holds them twice for a moment, and so does the next one, while it unpacks its initrd. Then the next
        one holds them while it makes its root.
        """
        room = min((available_bytes() - _BESIDE) // 2, (total_bytes() - _NEXT) // 2, _MOST)
        if not self._whole:
            machine = machine_room(whole_machine(total_bytes()), self._config.backing)
            room = min(room, machine.available - self._root)
        return max(0, room)


def check_next_memory(handed: int, initramfs: BootFile) -> None:
    """Raise OutOfMemoryError where the next kernel could not unpack its initrd: it would only stop there.

    ``handed`` are bytes that are handed over in it, which lie in memory twice for a moment.
    """
    total = total_bytes()
    if 2 * handed + _NEXT_ALONE + (1 + _OFTEN_UNPACKED) * initramfs.size <= total:
        return
    unpacked = unpacked_size(initramfs.chunks())
    needed = 2 * handed + _NEXT_ALONE + initramfs.size + unpacked
    if needed > total:
        also = f" and twice the {mib(handed)} that are handed over" if handed else ""
        raise OutOfMemoryError(
            f"the next kernel would need {mib(needed)} to begin with, for its initramfs ({mib(initramfs.size)}, "
            f"{mib(unpacked)} unpacked){also}; this machine has {mib(total)}",
            hint="give the machine more memory, make the image's initramfs smaller"
            + (", or boot with bootc.kexec.reuse-image=0" if handed else ""),
        )


def check_next_cmdline(cmdline: str) -> None:
    """Raise LandingError for a command line that the next kernel could not boot with: here, something can be done."""
    if len(os.fsencode(cmdline)) > _LONGEST:
        raise LandingError(
            f"the next kernel's command line has {len(cmdline)} characters, {_LONGEST} are the most there can be",
            hint="leave arguments out with bootc.kexec.remove=",
        )
    try:
        parse_cmdline(cmdline, os.environ)
    except ConfigError as error:
        raise LandingError(
            f"the next kernel could not boot with the command line it would get: {error.message}",
            hint="correct the arguments of the image (kargs.d), bootc.kexec.append= and bootc.kexec.remove=",
        ) from error
