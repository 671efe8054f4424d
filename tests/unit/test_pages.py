"""Commands of pages are found; links, files, kernel arguments, options and messages that pages name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from bootc_live.cli.options.parser import make_parser
from bootc_live.config.cmdline.table import BY_NAME
from tests.lib.pages import Block, blocks
from tests.lint.rule_imports import ORDER

# A verb of ours and what follows it, in code.
COMMAND = re.compile(r"(?:^|[^/\w-])bootc-live(?:\.pyz)? ([a-z]+(?![\w-])[^|;#)\n]*)")
# What pages say that there is not, and what is a name of something else.
NO_ARGUMENTS = {"bootc.host"}
# Parts of messages by dracut and by ip(8).
OTHERS_SAY = {"bootc-live:…", "ip link", "lo"}

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


def pages(repo: Path) -> list[Path]:
    """All pages."""
    return [*repo.glob("*.md"), *repo.glob("docs/*.md"), repo / "tests/README.md"]


def test_links_lead_somewhere(repo: Path) -> None:
    headings = {
        page: {anchor(found) for found in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)}
        for page in pages(repo)
    }
    assert len(headings) > 15
    for page in headings:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, part = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if "://" not in link:
                assert target.exists(), f"{page.name}: {link}"
                assert not part or part in headings[target], f"{page.name}: {link}"


def test_every_page_can_be_reached(repo: Path) -> None:
    readme = (repo / "README.md").read_text()
    for page in [*repo.glob("docs/*.md"), *repo.glob("docs/containerfiles/*")]:
        assert f"]({page.relative_to(repo)}" in readme, page.name


def code(page: Path) -> list[str]:
    """What a page shows as code: inline, indented or fenced."""
    text = page.read_text()
    shown = [line for line in text.splitlines() if line.startswith("    ")]
    return shown + [block.text for block in blocks(text)] + re.findall(r"`([^`\n]+)`", text)


def test_files_of_the_repository_are_there(repo: Path) -> None:
    found = 0
    for page in pages(repo):
        for text in code(page):
            for name in re.findall(r"(?<![\w/.-])(?:docs|modules\.d|pyapp|tests|vm)/[\w./-]*\w(?![\w*?/.-])", text):
                if not name.startswith("vm/out"):
                    assert (repo / name).exists(), f"{page.name}: {name}"
                    found += 1
    assert found > 40


def test_kernel_arguments_are_known(repo: Path) -> None:
    for page in pages(repo):
        if page.name == "CHANGELOG.md":
            continue
        for text in code(page):
            for name in re.findall(r"(?<![\w./-])bootc\.[a-z][a-z.-]*[a-z]", text):
                known = [karg for karg in BY_NAME if karg == name or karg.startswith(f"{name}.")]
                assert known or name in NO_ARGUMENTS, f"{page.name}: {name}"


def test_verbs_and_options_are_known(repo: Path) -> None:
    verbs = next(action.choices for action in make_parser()._actions if action.dest == "verb")
    assert isinstance(verbs, dict)
    found = 0
    for page in pages(repo):
        for text in code(page):
            for command in COMMAND.findall(text.replace("\\\n", "")):
                verb, *words = command.split()
                assert verb in verbs, f"{page.name}: {command}"
                parser = verbs[verb]
                tools = next(
                    (action.choices for action in parser._actions if action.metavar in {"TOOL", "WHERE"}), None
                )
                if isinstance(tools, dict) and words and words[0] in tools:
                    parser = tools[words[0]]
                words = words[: words.index("--")] if "--" in words else words
                options = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
                assert options <= set(parser._option_string_actions), f"{page.name}: {command}"
                found += 1
    assert found > 20


def test_messages_are_those_of_the_program(repo: Path) -> None:
    """The parts in code of the first column of the table of messages."""
    sources = "".join(path.read_text() for path in (repo / "pyapp/bootc_live").rglob("*.py"))
    _, _, table = (repo / "docs/troubleshooting.md").read_text().partition("| message | cause |")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    parts = [part for row in rows for part in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    assert len(parts) > 20
    for part in parts:
        assert part in OTHERS_SAY or re.sub("[0-9]+$", "", part) in sources, part


def test_functions_that_architecture_names(repo: Path) -> None:
    """Each `file.py:name` is defined in that file; rooms are those that lint knows, in their order."""
    page = (repo / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:[a-z_0-9]+/)*[a-z_]+\.py):([\w.]+)`", page)
    assert len(named) > 40
    for path, name in named:
        body = ast.parse((repo / "pyapp/bootc_live" / path).read_text()).body
        for part in name.split("."):
            kinds = (ast.FunctionDef, ast.ClassDef)
            found = next((node for node in body if isinstance(node, kinds) and node.name == part), None)
            assert found is not None, f"docs/architecture.md: {path}:{name}"
            body = found.body
    rooms = re.findall(r"^\| `(\w+)` \|", page.partition("## Rooms")[2].partition("\n## ")[0], re.MULTILINE)
    assert rooms == [room for room in reversed(ORDER) if room != "__main__"]


def test_walks_go_down(repo: Path) -> None:
    walks = (repo / "docs/architecture.md").read_text().partition("## Three walks")[2].partition("\n## ")[0]
    steps = [re.findall(r"^\d+\. (↑?)", walk, re.MULTILINE) for walk in walks.split(":\n\n1. ")[1:]]
    assert [walk.count("↑") <= 2 < len(walk) for walk in steps] == [True] * 3


def test_the_sink_of_the_page_is_the_tested_one(repo: Path) -> None:
    sink = next(
        block.text for block in blocks((repo / "docs/architecture.md").read_text()) if block.language == "python"
    )
    tested = (repo / "tests/unit/test_pipeline.py").read_text()
    assert [line for line in sink.splitlines() if line not in tested] == []
