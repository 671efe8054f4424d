"""One mutation of the product, as the table has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """A mistake that could slip in: `old`, which stands in `file` exactly once, becomes `new`.

    `stage` is where it is expected to be found: unit, lint, integration, roots or vm. `caught_by` is a test file of
    that stage, or one test of it as `FILE::TEST`; None marks a hole, which no test finds.
    """

    name: str
    file: str
    old: str
    new: str
    stage: str
    caught_by: str | None

    def applied(self, top: Path = REPO) -> str:
        """Return the text of the changed file; raises ValueError where the row no longer fits the file."""
        text = (top / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times in {self.file}, not once")
        return text.replace(self.old, self.new)
