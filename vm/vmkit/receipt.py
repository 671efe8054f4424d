"""Prints the report of ``vm/boot --json`` for people."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_INDENT = "  "


def lines(value: Any, name: str = "", depth: int = 0) -> Iterator[str]:
    """Yield ``value``, as JSON gives it, one ``name: value`` a line, nested by indentation."""
    label = f"{_INDENT * depth}{name.replace('_', ' ')}"
    if isinstance(value, dict):
        if name:
            yield f"{label}:"
        for key, item in value.items():
            yield from lines(item, key, depth + bool(name))
    elif isinstance(value, list):
        if not value:
            yield f"{label}: none"
        for number, item in enumerate(value, 1):
            yield from lines(item, f"{name.removesuffix('s')} {number}", depth)
    elif isinstance(value, bool):
        yield f"{label}: {'yes' if value else 'no'}"
    else:
        yield f"{label}: {value}"


def main(argv: list[str]) -> int:
    """Print the report in the file ``argv[0]``; returns the exit status."""
    report = json.loads(Path(argv[0]).read_text())
    receipt = report.pop("receipt")
    print("boot")
    print("\n".join(lines(report, depth=1)))
    if receipt is None:
        print("the guest left no boot receipt", file=sys.stderr)
        return 1
    print("receipt")
    print("\n".join(lines(receipt, depth=1)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
