"""Read the small files that lie beside an archive: signatures of the whole file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import ArchiveFile, SourceSpec, WebArchive
from bootc_live.source.access import Access
from bootc_live.source.archive.reader import unreadable


def read_beside(
    spec: SourceSpec, access: Access, endings: Sequence[str], limit: int
) -> Iterator[tuple[str, bytes | SourceError]]:
    """Yield ending and content of each file whose name is that of the archive with one of the endings.

    The content is cut one byte after ``limit`` bytes; it is the error if it cannot be read. Archives at a URL or a path
    have such files, other sources none.
    """
    if isinstance(spec, ArchiveFile) and not os.path.isdir(spec.path):
        yield from _read(spec, endings, limit)
    elif isinstance(spec, WebArchive):
        # Without network libraries, the archive itself cannot be opened either, and that says so.
        with suppress(ImportError):
            from bootc_live.source.http.beside import fetch_beside

            yield from fetch_beside(spec, access, endings, limit)


def _read(spec: ArchiveFile, endings: Sequence[str], limit: int) -> Iterator[tuple[str, bytes | SourceError]]:
    for ending in endings:
        name = spec.source_text + ending
        try:
            with open(spec.path + ending, "rb", opener=_at_once) as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    yield ending, file.read(limit + 1)
                else:
                    yield ending, SourceError(f"{name!r} is not a regular file", hint="put the signature there")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield ending, unreadable(name, error)


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe would wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
