"""Check before kexec that the next kernel will have enough memory, and a valid command line."""

from __future__ import annotations

import os

from bootc_live.base.errors import ConfigError, LandingError, OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.model import Config
from bootc_live.config.next_kernel.cmdline import check_next_cmdline
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

# The largest memory use of kernel, initramfs and this program, without the blobs.
_BESIDE = 192 * 2**20
# The next kernel's memory use at its start, with an initramfs of usual size, packed and unpacked.
_NEXT = 320 * 2**20
# The same without the initramfs.
_NEXT_ALONE = 192 * 2**20
# An initramfs is measured only if there would be too little memory for this ratio of unpacked to packed size.
_OFTEN_UNPACKED = 12
# The limit of files in a cpio and for kexec_file_load(2), without room for kernel and initramfs.
_MOST = 4 * 2**30 - 512 * 2**20


def plan_handover(config: Config, candidate: Candidate) -> RecordLimit:
    """Return how many bytes of an image can be handed over in memory, so that the next kernel can still make its root.

    An archive in this initramfs must be handed over whole, because the next kernel has no other source for it. Both
    kernels temporarily need twice the memory of what is handed over.
    """
    whole = candidate.source.source_text in {
        spec.source_text for spec in config.sources if isinstance(spec, ArchiveFile)
    }
    room = min((available_bytes() - _BESIDE) // 2, (total_bytes() - _NEXT) // 2, _MOST)
    if not whole:
        estimated = estimate(candidate.source, candidate.image)
        wanted = config.layout, config.compress, present_means(), config.backing.zram
        options = candidates(*wanted, verity=config.verity).options
        root = min(least_need(option, estimated).memory for option in options)
        room = min(room, available_on(total_bytes()) - root)
    return RecordLimit(max(0, room), whole)


def check_next_memory(handed: int, initramfs: BootFile) -> None:
    """Raise OutOfMemoryError if the next kernel could not unpack its initrd.

    ``handed`` counts the bytes that are handed over in it; they temporarily need twice the memory.
    """
    total = total_bytes()
    if 2 * handed + _NEXT_ALONE + (1 + _OFTEN_UNPACKED) * initramfs.size <= total:
        return
    unpacked = unpacked_size(initramfs.chunks())
    needed = 2 * handed + _NEXT_ALONE + initramfs.size + unpacked
    if needed > total:
        also = f" and 2 × {mib(handed)} for layers that are handed over" if handed else ""
        raise OutOfMemoryError(
            f"the next kernel would need {mib(needed)} at its start, for its initramfs ({mib(initramfs.size)}, "
            f"{mib(unpacked)} unpacked){also}; this machine has {mib(total)}",
            hint="give the machine more memory, make the image's initramfs smaller"
            + (", or boot with bootc.kexec.reuse-image=0" if handed else ""),
        )


def check_cmdline(cmdline: str) -> None:
    """Raise LandingError for a command line that the next kernel could not boot with."""
    try:
        check_next_cmdline(cmdline, os.environ)
    except ConfigError as error:
        raise LandingError(
            f"the next kernel could not boot with its command line: {error.message}",
            hint="correct the arguments of the image (kargs.d), bootc.kexec.append= and bootc.kexec.remove=",
        ) from error
