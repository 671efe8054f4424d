"""Make the initrd of the next kernel, without having any part of it in memory twice.

The kernel unpacks the archives of an initrd in order. First come the blobs, in the file that they were fetched into,
then the image's initramfs, and then small files, which may replace some of its files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import count

from bootc_live.base.errors import LandingError, OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.host.host_config import host_files
from bootc_live.config.next_kernel.handover import HOST, is_mounted_over
from bootc_live.formats import cpio
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.system.files import no_space, punch_hole
from bootc_live.system.memory import available_bytes

_DIRECTORY, _FILE = 0o40755, 0o100600
_ALIGN = 4
_STEP = 4 * 2**20
# In addition to the bundle of the image's initramfs.
_AUTHORITIES = "/etc/bootc-live/certs.d/kernel-before.crt"


def append_file(part: BootFile, path: str) -> None:
    """Move a part of a file to the end of the file ``path``, aligned to four bytes; raise OutOfMemoryError.

    The memory of the part is freed on the way.
    """
    source = os.open(part.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(target, -(-os.fstat(target).st_size // _ALIGN) * _ALIGN)
            os.lseek(target, 0, os.SEEK_END)
            at, end = part.offset, part.offset + part.size
            while at < end:
                moved = os.sendfile(target, source, at, min(_STEP, end - at))
                if not moved:
                    raise ValueError(f"{part.path} ends at {at}, before {end}")
                punch_hole(source, at, moved)
                at += moved
        except OSError as error:
            if no_space(error):
                raise _full() from error
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)


def append_archive(files: Mapping[str, bytes | BootFile], path: str) -> None:
    """Append an archive with files, named by absolute paths, to the file ``path``; raise OutOfMemoryError."""
    names = [name.lstrip("/") for name in files]
    try:
        with open(path, "ab") as file:
            # A word of zeros ends a part that is compressed with lz4; elsewhere, the kernel skips it.
            file.write(bytes(-file.tell() % _ALIGN + (_ALIGN if file.tell() else 0)))
            inodes = count(1)
            for name in cpio.directories(names):
                file.write(cpio.header(name, _DIRECTORY, 0, next(inodes)))
            for name, content in zip(names, files.values(), strict=True):
                size = len(content) if isinstance(content, bytes) else content.size
                file.write(cpio.header(name, _FILE, size, next(inodes)))
                file.writelines([content] if isinstance(content, bytes) else content.chunks())
                file.write(cpio.padding(size))
            file.write(cpio.trailer())
    except ValueError as error:
        raise LandingError(
            f"the next kernel's initrd cannot be made: {error}", hint="boot with bootc.kexec.reuse-image=0"
        ) from error
    except OSError as error:
        if no_space(error):
            raise _full() from error
        raise


def carried_files(root: str = "/", environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, bytes]]:
    """Yield the settings for servers of this initramfs, by their paths in the next one.

    These are logins, certificates and mirrors, and the authorities that this system trusts.
    """
    for path in host_files(root, environ):
        with open(os.path.join(root, path.lstrip("/")), "rb") as file:
            yield f"{HOST}{path}" if is_mounted_over(path) else path, file.read()
    bundle = _system_bundle()
    if bundle is not None:
        with open(bundle, "rb") as file:
            yield _AUTHORITIES, file.read()


def _system_bundle() -> str | None:
    try:
        from bootc_live.source.http.trust import system_bundle
    except ImportError:
        # This initramfs has no network support.
        return None
    return system_bundle()


def _full() -> OutOfMemoryError:
    return OutOfMemoryError(
        f"there is too little memory for the next kernel's initrd: {mib(available_bytes())} are available",
        hint="give the machine more memory, or boot with bootc.kexec.reuse-image=0",
    )
