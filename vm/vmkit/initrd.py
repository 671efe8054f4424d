"""Joining initrds."""

import shutil
from collections.abc import Sequence
from pathlib import Path


def concatenate(parts: Sequence[Path], out: Path) -> None:
    """Join initrds as boot loaders do: each part starts at a multiple of four bytes.

    The kernel looks for an uncompressed archive at such places only
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    with out.open("wb") as target:
        for part in parts:
            target.write(bytes(-target.tell() % 4))
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
