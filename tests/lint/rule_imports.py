"""The rooms of the package import one way: each only what stands before it in ``ORDER``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

PACKAGE = "bootc_live"
ORDER = (
    "base",
    "formats",
    "system",
    "config",
    "source",
    "image",
    "rootfs",
    "receipt",
    "artifacts",
    "landing",
    "pipeline",
    "disk",
    "freeze",
    "cli",
    "__main__",
)
_STAGE_NAME = re.compile(rf"{PACKAGE}\.({'|'.join(ORDER)})(\.\w+)*$")


def back_edges(module: str, source: str) -> list[str]:
    """Imports of `module` (a dotted name) that point against the order, wherever in the source they stand."""
    own = _rank(module)
    if own is None:
        return [f"{module} belongs to no stage; known are {', '.join(ORDER)}"]
    found = []
    for line, target in _imported(ast.parse(source)):
        rank = _rank(target)
        if rank is None or rank > own:
            found.append(f"{module}:{line} imports {target}, which is above it")
    return found


def _rank(module: str) -> int | None:
    """Place of a module in the order: -1 for the bare package, None for an unknown stage."""
    parts = module.split(".")
    if len(parts) == 1:
        return -1
    return ORDER.index(parts[1]) if parts[1] in ORDER else None


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                targets = [alias.name for alias in names]
            case ast.ImportFrom(module=str(base), names=names, level=0):
                # `from bootc_live import x` names a stage or a plain attribute of the package.
                stages = [f"{base}.{alias.name}" for alias in names if alias.name in ORDER]
                targets = stages if base == PACKAGE else [base]
            case ast.Constant(value=str(text)) if _STAGE_NAME.match(text):
                # A module name for importlib or a lazy table.
                targets = [text]
            case _:
                continue
        yield from ((node.lineno, target) for target in targets if target.split(".")[0] == PACKAGE)
