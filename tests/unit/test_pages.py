"""Every command of a page is found."""

from __future__ import annotations

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
