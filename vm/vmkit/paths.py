"""Where things are in this repository."""

from pathlib import Path
from typing import Final

REPO: Final = Path(__file__).resolve().parents[2]
VM: Final = REPO / "vm"
OUT: Final = VM / "out"
ROOTS: Final = OUT / "roots"
"""Root file systems, made by ``vm/enter`` at first use."""
ZIPAPP: Final = REPO / "build" / "bootc-live.pyz"
