"""The commands that stand in a page of the documentation."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Final

_FENCE: Final = re.compile(r"^( *)```(\w*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the heading it stands below."""

    heading: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order; raises AssertionError for one that does not end."""
    found: list[Block] = []
    heading, language, inside = "", "", None
    for line in page.splitlines():
        fence = _FENCE.match(line)
        if inside is None:
            if line.startswith("#"):
                heading = line.lstrip("# ")
            elif fence:
                language, inside = fence[2], list[str]()
        elif fence:
            found.append(Block(heading, language, textwrap.dedent("\n".join([*inside, ""]))))
            inside = None
        else:
            inside.append(line)
    assert inside is None, f"a block below {heading!r} does not end"
    return found
