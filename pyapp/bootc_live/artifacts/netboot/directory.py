"""Write the directory that a boot server serves: kernel, initrds, boot loader configuration and checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bootc_live.artifacts.netboot.loader_files import Entry, loader_files
from bootc_live.artifacts.node_cmdline import ARCHIVE
from bootc_live.artifacts.node_files import NodeFiles

SUMS = "SHA256SUMS"
_KERNEL = "vmlinuz"


@dataclass(frozen=True)
class Written:
    """A file of the directory: its name there, its sha256 in hexadecimal digits, its size in bytes."""

    name: str
    sha256: str
    size: int


def write_netboot(directory: str, files: NodeFiles, base: str | None) -> list[Written]:
    """Write everything into an empty directory, with SHA256SUMS; return the written files, sorted by name.

    The same input gives the same bytes. ``base`` is the future URL of the directory, if known. Raise ConfigError and
    OSError.
    """
    entry = Entry(files.title, _KERNEL, tuple(files.initrds), files.cmdline, base)
    contents: dict[str, Iterable[bytes]] = {name: [text.encode()] for name, text in loader_files(entry).items()}
    contents |= {name: initrd.chunks() for name, initrd in files.initrds.items()}
    contents[_KERNEL] = files.kernel.chunks()
    contents |= {f"{ARCHIVE}{end}": file.chunks() for end, file in files.archive.items()}
    written = [_write(directory, name, contents[name]) for name in sorted(contents)]
    sums = "".join(f"{one.sha256}  {one.name}\n" for one in written)
    _write(directory, SUMS, [sums.encode()])
    return written


def _write(directory: str, name: str, chunks: Iterable[bytes]) -> Written:
    path = os.path.join(directory, name)
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.mkdir(parent)
        _open_up(parent, 0o755)
    found, size = hashlib.sha256(), 0
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
            found.update(chunk)
            size += len(chunk)
    _open_up(path, 0o644)
    return Written(name, found.hexdigest(), size)


def _open_up(path: str, mode: int) -> None:
    """Let a server run by another user read it; ignore file systems without modes."""
    with suppress(PermissionError):
        os.chmod(path, mode)
