"""Writes the figures of `tests/run bench` into docs/performance.md: `python -m tests.lib.bench_page`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

REPO: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPO / "docs/performance.md"
BEGIN: Final = "<!-- what follows is made by tests/lib/bench_page.py -->\n"
END: Final = "<!-- end of what is made -->\n"


def section(values: Mapping[str, Any]) -> str:
    """The tables and bars of a run, in Markdown."""
    machine = values["machine"]
    lines = [f"Machine: {machine['cores']} cores, {machine['model']}, Linux {machine['kernel']}.", ""]
    bars = {name: found for name, found in values.items() if isinstance(found, dict) and "bar" in found}
    for name, found in values.items():
        if isinstance(found, list):
            lines += [f"**{_sentence(name)}**", "", *_table(found), ""]
    lines += ["| figure | measured | bar | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {_cell(found['value'])} | {found['bar']} | {'' if found['held'] else 'missed'} |"
        for name, found in bars.items()
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, object]]) -> Iterator[str]:
    yield f"| {' | '.join(rows[0])} |"
    yield "|---" * len(rows[0]) + "|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row.values()))} |"


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def main() -> None:
    """Replaces the part of the page between its marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    made = section(json.loads((REPO / "build/bench.json").read_text()))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")


if __name__ == "__main__":
    main()
