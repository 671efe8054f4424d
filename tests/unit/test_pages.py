"""Every command of a page is found, and every link between pages leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lib.pages import Block, blocks

PAGE = """# Top
text
```sh
first
```
## Next
* item

  ```sh
  cat <<'END'
  # no heading
    more
  END
  ```

```text
shown
```
"""


def test_blocks_with_their_headings() -> None:
    assert blocks(PAGE) == [
        Block("Top", "sh", "first\n"),
        Block("Next", "sh", "cat <<'END'\n# no heading\n  more\nEND\n"),
        Block("Next", "text", "shown\n"),
    ]


def test_a_block_without_an_end() -> None:
    with pytest.raises(AssertionError, match="below 'Top'"):
        blocks("# Top\n```sh\nrm -r x\n")


def anchor(heading: str) -> str:
    """Return how a link names a heading."""
    return re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere(repo: Path) -> None:
    pages = [*repo.glob("*.md"), *repo.glob("docs/*.md"), repo / "tests/README.md"]
    headings = {
        page: {anchor(found) for found in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)} for page in pages
    }
    assert len(pages) > 10
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, part = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if "://" not in link:
                assert target.exists(), f"{page.name}: {link}"
                assert not part or part in headings[target], f"{page.name}: {link}"
