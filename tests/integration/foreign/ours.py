"""What our reader makes of archives: `python3 -m tests.integration.foreign.ours ARCHIVE...` prints JSON, one line each.

It may take so much memory and so many seconds for one, and no more.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from bootc_live.formats.tar.reader import read_members
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import Node
from tests.integration.foreign.answers import Answer, data_digest
from tests.lib.tree_list import NONE, Line, quote

_REPO: Final = Path(__file__).resolve().parents[3]
_MEMORY: Final = 512 << 20
_SECONDS: Final = 120
_KINDS: Final = {"file": "f", "dir": "d", "symlink": "l", "char": "c", "block": "b", "fifo": "p"}


def read_all(archives: Sequence[Path]) -> dict[Path, Answer]:
    """Return the answers to archives; raises AssertionError where one ends the reader otherwise than by a refusal."""
    command: list[str | Path] = [sys.executable, "-m", "tests.integration.foreign.ours", *archives]
    environment = {**os.environ, "PYTHONPATH": f"{_REPO}:{_REPO / 'pyapp'}"}
    done = subprocess.run(command, cwd=_REPO, env=environment, capture_output=True, check=False)
    lines = done.stdout.splitlines()
    reason = done.stderr.decode(errors="replace")
    assert not done.returncode, f"status {done.returncode} at {archives[len(lines) : len(lines) + 1]}:\n{reason}"
    return dict(zip(archives, map(_answer, lines), strict=True))


def _answer(line: bytes) -> Answer:
    tree, said = json.loads(line)
    return Answer(None if tree is None else tuple(Line(*fields) for fields in tree), said)


def _read(tar: bytes) -> Answer:
    merging = Merging()
    try:
        for member in read_members(tar):
            merging.apply(member, 0, 0)
    except ValueError as error:
        return Answer(None, str(error))
    return Answer(tuple(_lines(merging.root, tar)))


def _lines(root: Node, tar: bytes) -> Iterator[Line]:
    nodes = sorted(_walk(root, b""), key=lambda found: found[0])
    links = Counter(id(node) for _, node in nodes)
    first: dict[int, str] = {}
    for path, node in nodes:
        kind, shared = _KINDS[node.kind], links[id(node)] > 1
        size = {"f": str(node.size), "l": str(node.size), "c": _device(node), "b": _device(node)}.get(kind, NONE)
        yield Line(
            path=quote(path),
            kind=kind,
            mode=f"{node.mode:o}",
            uid=str(node.uid),
            gid=str(node.gid),
            nlink=NONE if kind == "d" else str(links[id(node)]),
            mtime=str(node.mtime),
            size=size,
            target=quote(node.link) if kind == "l" else NONE,
            sha256=data_digest(_data(node, tar)) if kind == "f" else NONE,
            group=first.setdefault(id(node), quote(path)) if shared else NONE,
            xattrs=",".join(f"{os.fsdecode(name)}=0x{value.hex()}" for name, value in sorted(node.xattrs.items()))
            or NONE,
        )


def _walk(directory: Node, above: bytes) -> Iterator[tuple[bytes, Node]]:
    for name, node in directory.directory.items():
        yield above + name, node
        if node.children is not None:
            yield from _walk(node, above + name + b"/")


def _device(node: Node) -> str:
    return f"{node.device[0]}:{node.device[1]}"


def _data(node: Node, tar: bytes) -> Iterable[tuple[int, bytes]]:
    if node.extents is None:
        return [(0, tar[node.offset : node.offset + node.size])]
    return [(extent.start, tar[extent.data : extent.data + extent.length]) for extent in node.extents]


def main() -> None:
    """Answer to all archives."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    for name in sys.argv[1:]:
        signal.alarm(_SECONDS)
        answer = _read(Path(name).read_bytes())
        print(json.dumps([answer.tree and [astuple(line) for line in answer.tree], answer.said]), flush=True)


if __name__ == "__main__":
    main()
