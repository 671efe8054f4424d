"""All targets; each has its inputs in corpus/NAME.zip."""

from __future__ import annotations

from typing import Final

from tests.fuzz import tar
from tests.fuzz.target import Target

_ALL = (
    Target(
        "tar",
        tar.headers,
        refusals=(ValueError,),
        largest=8192,
        words=(
            *(b"ustar\0", b"ustar  \0", b"path=", b"linkpath=", b"size=", b"uid=", b"mtime=", b"SCHILY.xattr."),
            *(b"GNU.sparse.major=1\n", b"GNU.sparse.map=", b"GNU.sparse.name=", b"GNU.sparse.realsize="),
            *(b"GNU.sparse.offset=", b"GNU.sparse.numbytes=", b"GNU.sparse.size=", b".wh.", b".wh..wh..opq"),
        ),
    ),
)
TARGETS: Final = {target.name: target for target in _ALL}


def _fall_over(data: bytes) -> None:
    assert data[:1] != b"x", "it begins with x"


AWAKE: Final = Target("awake", _fall_over, refusals=(), largest=16)
"""Has a fault, by which a test sees that faults are found."""
