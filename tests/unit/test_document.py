"""The reference page has one row for each argument of the table, and nothing else of its own."""

from __future__ import annotations

import pytest

from bootc_live.config.cmdline.karg import Karg
from bootc_live.config.cmdline.page import markdown, plain
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.table import KARGS, SUBJECTS
from bootc_live.config.cmdline.tokens import split_cmdline


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_one_row_for_each_argument() -> None:
    assert [row[0].strip("| ") for row in rows(markdown())] == [f"`{karg.name}`" for karg in KARGS]


def test_rows_have_four_cells() -> None:
    for row, karg in zip(rows(markdown()), KARGS, strict=True):
        assert len(row) == 4, row
        kind = ", ".join(karg.choices[:-1]) + f" or {karg.choices[-1]}" if karg.choices else str(karg.kind)
        assert row[1] == kind + ", repeatable" * karg.many
        assert row[2] == (f"`{karg.default}`" if karg.default else "")
        assert row[3] == f"{karg.help} Example: `{karg.example}`"


def test_a_heading_for_each_subject() -> None:
    headings = [line.removeprefix("## ") for line in markdown().splitlines() if line.startswith("## ")]
    assert headings == [subject.title for subject in SUBJECTS]


@pytest.mark.parametrize("karg", KARGS, ids=lambda karg: karg.name)
def test_examples_are_command_lines(karg: Karg) -> None:
    """Each shows its argument last, with a value that is not the default, and parses."""
    installed = f"deployment:UUID=x:1@{'0' * 64}"
    root = installed if karg.name.startswith("bootc.disk.") else "/root.oci"
    config = parse_cmdline(f"root=bootc-live:{root} {karg.example}")
    assert config.sources or config.deployment
    last = split_cmdline(karg.example)[-1]
    assert last.name == karg.name
    assert karg.name == "ro" or (last.value or "1") != karg.default


def test_page_ends_with_one_newline() -> None:
    assert markdown().endswith(" |\n")
    assert not markdown().endswith("\n\n")
    assert markdown().startswith("# ")


def test_terminal_text_names_everything() -> None:
    for karg in KARGS:
        assert f"\n{karg.name} ({karg.choices[0] if karg.choices else karg.kind}" in f"\n{plain()}"
    assert "\nbootc.live.fallback (source, repeatable)\n" in plain()
    assert "\nbootc.live.compress (none, lz4 or zstd) [none]\n" in plain()
    assert "`" not in plain()
