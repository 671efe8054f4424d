"""What a program makes of a tar archive, in a form that can be compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.integration.corpus.oracle import ANY
from tests.lib.tree_list import Line, differences

_BLOCK: Final = 4096
_ZEROS: Final = bytes(_BLOCK)


@dataclass(frozen=True)
class Answer:
    """A tree, or None where the archive is refused, and what was said; the root directory is not in the tree.

    A directory that no member describes has the time `ANY` where that is the time of making it.
    """

    tree: tuple[Line, ...] | None
    said: str = ""

    def same(self, other: Answer) -> bool:
        """Tell whether both are refusals, or the same tree."""
        return not self.against(other)

    def against(self, other: Answer) -> list[str]:
        """Return how this answer differs from another one, which is what should be."""
        if self.tree is None or other.tree is None:
            return [] if self.tree is other.tree else [f"{self.short()} instead of {other.short()}"]
        new = {line.path for line in (*self.tree, *other.tree) if line.mtime == ANY}
        mine, others = (
            [line.but(mtime=ANY) if line.path in new else line for line in tree] for tree in (self.tree, other.tree)
        )
        return differences(others, mine)

    def short(self) -> str:
        """Return it as a few words."""
        return f"refused ({self.said[-300:]})" if self.tree is None else f"a tree of {len(self.tree)} entries"


def agreed(answers: Mapping[str, Answer]) -> Answer | None:
    """Return what two of the answers say; None where no two are the same."""
    found = list(answers.values())
    for number, answer in enumerate(found):
        if any(answer.same(other) for other in found[number + 1 :]):
            return answer
    return None


def data_digest(parts: Iterable[tuple[int, bytes]]) -> str:
    """Return a digest of a file's content, given as (offset, data) parts in any pieces: holes are as good as zeros."""
    blocks: dict[int, bytearray] = {}
    for offset, data in parts:
        position = 0
        while position < len(data):
            number, within = divmod(offset + position, _BLOCK)
            piece = data[position : position + _BLOCK - within]
            blocks.setdefault(number, bytearray(_BLOCK))[within : within + len(piece)] = piece
            position += len(piece)
    summed = hashlib.sha256()
    for number in sorted(number for number, block in blocks.items() if block != _ZEROS):
        summed.update(b"%d " % number + blocks[number])
    return summed.hexdigest()


def file_digest(path: bytes) -> str:
    """Return `data_digest` of a file, without reading its holes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return data_digest(_data(fd))
    finally:
        os.close(fd)


def _data(fd: int) -> Iterator[tuple[int, bytes]]:
    size, end = os.fstat(fd).st_size, 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            # ENXIO: the rest is one hole.
            return
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, os.pread(fd, end - begin, begin)
