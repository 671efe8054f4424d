"""Find what a boot loader needs of an image: kernel, initramfs and kernel arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bootc_live.base.errors import ImageError, about
from bootc_live.config.next_kernel.kargs_d import image_arguments, printable_words
from bootc_live.formats import pe
from bootc_live.rootfs.boot_files import zboot
from bootc_live.rootfs.boot_files.kernel_choice import HINT, Chosen, kargs_files, release
from bootc_live.rootfs.tree.node import UNREAD, Node
from bootc_live.system.files import space_for, write_all

_CHUNK = 2**20
# Arguments and names in a UKI are a few lines of text.
_MOST_TEXT = 64 * 2**10

ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class BootFile:
    """``size`` bytes at ``offset`` of the file ``path``."""

    path: str
    offset: int
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            left = self.size
            while left and (chunk := file.read(min(_CHUNK, left))):
                yield chunk
                left -= len(chunk)

    def read(self) -> bytes:
        """Return the whole content."""
        return b"".join(self.chunks())

    def part(self, offset: int, size: int) -> BootFile:
        """Return a part of it."""
        return BootFile(self.path, self.offset + offset, size)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return some bytes of it."""
        return self.part(offset, max(0, min(length, self.size - offset))).read()


@dataclass(frozen=True)
class BootFiles:
    """What an image boots with.

    ``version`` is the kernel's release, ``kernel`` can be loaded directly, ``initramfs`` is None if the image has none.
    ``arguments`` are the image's own kernel arguments. ``uki`` is the unified kernel image that it all comes from, None
    if it does not.
    """

    version: str
    kernel: BootFile
    initramfs: BootFile | None
    arguments: tuple[str, ...]
    uki: BootFile | None = None

    @property
    def from_uki(self) -> bool:
        """Whether they are parts of a unified kernel image."""
        return self.uki is not None


def boot_files(chosen: Chosen, path: str, directory: str, machine: str, source_text: str) -> BootFiles:
    """Return the files of the chosen kernel of an image's tree, whose data is in the file ``path``.

    Decompressed files are written to ``directory``. Raise ImageError.
    """
    kernel = _file(chosen.kernel, path, chosen.name, source_text)
    files = {name: _text(node, path, name, source_text) for name, node in kargs_files(chosen.root, source_text).items()}
    found = _sections(kernel, chosen.name)
    if pe.is_uki(found):
        return _unwrapped(kernel, found, chosen, partial(_plain, directory=directory, source_text=source_text))
    initramfs = None if chosen.initramfs is None else _file(chosen.initramfs, path, "initramfs.img", source_text)
    arguments = image_arguments(files, machine)
    return BootFiles(chosen.version, _plain(kernel, directory, source_text), initramfs, arguments)


def _sections(kernel: BootFile, name: str) -> dict[str, tuple[int, int]]:
    """Return the sections of a UKI, which may also be named vmlinuz; those of other kernels do not matter."""
    try:
        return pe.sections(kernel.read_at, kernel.size)
    except ImageError:
        if name.lower().endswith(".efi"):
            raise
        return {}


def _unwrapped(
    uki: BootFile, found: dict[str, tuple[int, int]], chosen: Chosen, plain: Callable[[BootFile], BootFile]
) -> BootFiles:
    """Return the parts of a UKI; only its own command line counts, as if firmware had booted it."""

    def text(name: str) -> str:
        offset, size = found.get(name, (0, 0))
        return uki.read_at(offset, min(size, _MOST_TEXT)).partition(b"\0")[0].decode(errors="replace").strip()

    kernel, initramfs = (uki.part(*found[name]) if name in found else None for name in (".linux", ".initrd"))
    if kernel is None or not kernel.size:
        raise ImageError(f"the UKI {chosen.name} has an empty kernel", hint=HINT)
    try:
        arguments = tuple(printable_words(text(".cmdline")))
    except ValueError as error:
        raise ImageError(f"the command line of the UKI {chosen.name} cannot be used: {error}", hint=HINT) from error
    return BootFiles(release(text(".uname")) or chosen.version, plain(kernel), initramfs, arguments, uki)


def _plain(kernel: BootFile, directory: str, source_text: str) -> BootFile:
    with about(f"the kernel of {source_text!r}"):
        chunks = zboot.unwrap(kernel.read_at, kernel.size)
        if chunks is None:
            return kernel
        path = os.path.join(directory, "vmlinux")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with space_for(fd):
                for chunk in chunks:
                    write_all(fd, chunk)
        finally:
            os.close(fd)
        return BootFile(path, 0, os.path.getsize(path))


def _text(node: Node, path: str, name: str, source_text: str) -> bytes:
    file = _file(node, path, name, source_text)
    if file.size > _MOST_TEXT:
        raise ImageError(
            f"{release(name)} of {source_text!r} has {file.size} bytes, at most {_MOST_TEXT} are read", hint=HINT
        )
    return file.read()


def _file(node: Node, path: str, name: str, source_text: str) -> BootFile:
    name = release(name)
    if node.kind == UNREAD:
        where = node.link.decode(errors="backslashreplace")
        raise ImageError(f"{name} of {source_text!r} is a hard link to {where!r}, whose data was not kept", hint=HINT)
    if node.kind != "file" or node.extents is not None or not node.size:
        raise ImageError(f"{name} of {source_text!r} is empty, sparse, or no regular file", hint=HINT)
    return BootFile(path, node.offset, node.size)
