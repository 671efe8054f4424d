"""The initrd of the next kernel: what is handed over, around the image's own initramfs, with nothing in memory twice.

The kernel unpacks the archives of an initrd one after the other, so the blobs stand in front, where they were written
when they came; the image's initramfs follows, and small files that may replace some of it come last.
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
# Beside other authorities, not in their place: the image's initramfs has a bundle of its own.
_AUTHORITIES = "/etc/bootc-live/certs.d/kernel-before.crt"


def append_file(part: BootFile, path: str) -> None:
    """Move bytes of a file behind those of the file ``path``, from a multiple of four on; raises OutOfMemoryError.

    Their memory in the first file is given back on the way.
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
    """Put files, named by absolute paths, as one more archive behind the content of the file ``path``.

    Raises OutOfMemoryError.
    """
    names = [name.lstrip("/") for name in files]
    try:
        with open(path, "ab") as file:
            # A word of zeros ends what is compressed with lz4 for the kernel; elsewhere it is passed over.
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
    """Give what this kernel was given for servers, by the paths it has in the next one, which asks the same ones.

    Those are logins, certificates and mirrors, and the authorities that this system trusts.
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
        # Of an initramfs without the network.
        return None
    return system_bundle()


def _full() -> OutOfMemoryError:
    return OutOfMemoryError(
        f"there is no room for the next kernel's initrd, {mib(available_bytes())} are available",
        hint="give the machine more memory, or boot with bootc.kexec.reuse-image=0",
    )
