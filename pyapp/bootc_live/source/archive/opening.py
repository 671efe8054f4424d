"""Open an archive of any kind, at a path or through a reader."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bootc_live.base.advice import advise
from bootc_live.base.errors import SourceError
from bootc_live.source.archive.docker import MANIFEST, DockerArchive
from bootc_live.source.archive.files import HINT, DirectoryFiles, TarFiles
from bootc_live.source.archive.layout import LayoutSource
from bootc_live.source.archive.reader import FileReader, Reader
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.interface import AnySource
from bootc_live.system.inflate.streams import compression

_MAGIC = 16


@contextmanager
def open_archive(
    path: str, source_text: str, label: str | None, *, consume: bool = False, hashes: Sequence[str] = ()
) -> Iterator[AnySource]:
    """Open an archive or an OCI layout directory, which closes with the block.

    ``label`` names the image; None selects ``latest``, or the only one. ``consume`` frees the space of the parts that
    have been read. With ``hashes``, read it as a stream that computes them. Raise SourceError.
    """
    if os.path.isdir(path):
        yield LayoutSource(DirectoryFiles(path, source_text), source_text, label)
        return
    try:
        # Without O_NONBLOCK, opening a pipe waits for a writer.
        fd = os.open(path, (os.O_RDWR if consume else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(
            f"cannot open the archive {source_text!r}: {error.strerror}",
            hint=advise(
                "put the archive at this path of the initramfs (embedded, or appended as a cpio), or correct root=",
                "check the path, and your permission to read it",
            ),
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SourceError(f"{source_text!r} is not a regular file", hint=HINT)
        reader = FileReader(fd, source_text, consume=consume)
        yield read_archive(reader, source_text, label, insecure=False, hashes=hashes)
    finally:
        os.close(fd)


def read_archive(
    reader: Reader, source_text: str, label: str | None, *, insecure: bool, hashes: Sequence[str] = ()
) -> AnySource:
    """Return the source for an archive of any kind; raise SourceError. See ``open_archive`` for ``hashes``."""
    if hashes or compression(reader.read(0, _MAGIC)) is not None:
        return StreamArchive(
            lambda: reader.stream(0, reader.size),
            source_text,
            label,
            insecure=insecure,
            interrupt=reader.interrupt,
            hashes=hashes,
        )
    files = TarFiles(reader, source_text)
    if files.size("index.json") is not None:
        return LayoutSource(files, source_text, label, insecure=insecure)
    if files.size(MANIFEST) is not None:
        return DockerArchive(files, source_text, label, insecure=insecure)
    raise SourceError(
        f"{source_text!r} is a tar file, but neither an OCI archive nor a docker-archive: it has no index.json",
        hint=HINT,
    )
