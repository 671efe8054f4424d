"""What the next kernel can do: how much may be handed over to it, and what it will say to its arguments."""

from __future__ import annotations

import os

from bootc_live.base.errors import ConfigError, LandingError, OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Config
from bootc_live.config.source_spec import ArchiveFile
from bootc_live.image.candidate import Candidate
from bootc_live.image.layout_recorder import RecordLimit
from bootc_live.image.size.estimate import estimate
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import unpacked_size
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.memory.need import available_on
from bootc_live.rootfs.plan import candidates, least_need
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


def plan_handover(config: Config, candidate: Candidate) -> RecordLimit:
    """Return how much of an image may be handed over in memory, so that the next kernel can still make its root.

    An archive of this initramfs has to be handed over whole: the next kernel can have it from nowhere else. This
    kernel holds what is handed over twice for a moment, and so does the next one while it unpacks its initrd.
    """
    whole = candidate.source.typed in {spec.typed for spec in config.sources if isinstance(spec, ArchiveFile)}
    room = min((available_bytes() - _BESIDE) // 2, (total_bytes() - _NEXT) // 2, _MOST)
    if not whole:
        estimated = estimate(candidate.source, candidate.image)
        options = candidates(config.layout, config.compress, present_means(), config.backing.zram).options
        root = min(least_need(option, estimated).memory for option in options)
        room = min(room, available_on(total_bytes()) - root)
    return RecordLimit(max(0, room), whole)


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
