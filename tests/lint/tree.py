"""Which files the rules look at."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

from tests.lib.needs import need

REPO = Path(__file__).resolve().parents[2]

_SHELLS = ("sh", "bash", "dash")


@cache
def files() -> tuple[Path, ...]:
    """Every file of the source tree: known to git, or new and not ignored by it."""
    need("git")
    argv = ["git", "-c", f"safe.directory={REPO}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=REPO, check=True, capture_output=True, text=True).stdout
    paths = (REPO / name for name in sorted(set(listed.split("\0"))) if name)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


@cache
def text_of(path: Path) -> str | None:
    """The content of a file, or None if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def interpreter(text: str) -> str | None:
    """The program that a script's first line names, without its directory; None if it names none."""
    first = text.partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    if words and words[0].endswith("/env"):
        words = words[1:]
    return words[0].rpartition("/")[2] if words else None


def python_files(under: str = "") -> list[Path]:
    """Python sources below the folder `under` of the tree, by name or by first line."""
    return [path for path in _below(under) if path.suffix == ".py" or interpreter(text_of(path) or "") == "python3"]


def shell_files(under: str = "") -> list[Path]:
    """Shell scripts below the folder `under` of the tree, by name or by first line."""
    return [path for path in _below(under) if path.suffix == ".sh" or interpreter(text_of(path) or "") in _SHELLS]


def name_of(path: Path) -> str:
    """The path as seen from the top of the tree."""
    return path.relative_to(REPO).as_posix()


def _below(under: str) -> list[Path]:
    return [path for path in files() if path.is_relative_to(REPO / under)]
