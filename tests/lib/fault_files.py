"""Files behind a faulty server, as an ordinary web server has them: whole, or from a byte on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tests.lib.fault_messages import Answer, Request

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)\Z")
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Files:
    """A backend that serves files by their path on the server; `etag` gives each an ETag."""

    files: Mapping[str, Path]
    etag: bool = True

    @contextmanager
    def answer(self, request: Request) -> Iterator[Answer]:
        """See `Backend`."""
        if request.path not in self.files:
            yield Answer(404)
            return
        with self.files[request.path].open("rb") as file:
            yield self._part(request, file, self.files[request.path].stat().st_size)

    def _part(self, request: Request, file: BinaryIO, size: int) -> Answer:
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if self.etag:
            headers["ETag"] = f'"{size:x}"'
        asked = _RANGE.match(request.header("Range"))
        if asked is None:
            return Answer(200, _read(file, size), size, headers)
        start, end = int(asked[1]), min(int(asked[2] or size), size - 1)
        if start > end:
            return Answer(416, headers={"Content-Range": f"bytes */{size}"})
        file.seek(start)
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        return Answer(206, _read(file, end + 1 - start), end + 1 - start, headers, start)


def _read(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count and (data := file.read(min(_PIECE, count))):
        yield data
        count -= len(data)
