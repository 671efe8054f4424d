"""Text from outside becomes a number in base/numbers.py alone."""

from __future__ import annotations

import ast


def conversions(source: str) -> list[str]:
    """`line: int` for every use of `int` but as a type: in annotations, `isinstance`, `int.from_bytes`, `A | int`."""
    tree = ast.parse(source)
    called = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    uses = [part for node in called for part in (node.func, *_handed_on(node)) if _is_int(part)]
    return [f"{line}: int" for line in sorted(part.lineno for part in uses)]


def _handed_on(call: ast.Call) -> list[ast.expr]:
    """What is given to a function that may call it, such as `map(int, parts)`."""
    if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass", "cast"):
        return []
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _is_int(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "int"
