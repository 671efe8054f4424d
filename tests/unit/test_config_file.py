"""Options in a YAML file: the command line comes first, and all mistakes are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.cli.options.config_file import add_from_file
from bootc_live.cli.options.parser import parse_arguments


def write(where: Path, text: str) -> str:
    path = where / "pivot.yaml"
    path.write_text(text)
    return str(path)


def test_what_a_file_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "sources: [docker://registry.example/os:1, ./site]\nrollback-after: 10m\nheadless: true\nkey: [a.pub]\n"
        "cmdline: bootc.live.layout=erofs\n",
    )
    arguments = parse_arguments(["pivot", "--config", path, "--rollback-after", "5m"])
    add_from_file(arguments)
    assert arguments.source == ["docker://registry.example/os:1", "./site"]
    assert (arguments.rollback_after, arguments.headless, arguments.key) == ("5m", True, ["a.pub"])
    assert arguments.cmdline == "bootc.live.layout=erofs"
    arguments = parse_arguments(["pivot", "--config", path, "./mine"])
    add_from_file(arguments)
    assert arguments.source == ["./mine"]


def test_the_same_file_for_another_verb(tmp_path: Path) -> None:
    """It has not all of the options."""
    arguments = parse_arguments(["build", "--config", write(tmp_path, "sources: [a]\nheadless: true\n")])
    add_from_file(arguments)
    assert arguments.source == ["a"]
    assert not hasattr(arguments, "headless")


@pytest.mark.parametrize(
    ("said", "words", "kept", "released"),
    [
        ("keep-old-root: /old", [], "/old", False),
        ("keep-old-root: /old", ["--release-old-root"], None, True),
        ("release-old-root: true", [], None, True),
        ("release-old-root: true", ["--keep-old-root"], "/mnt/oldroot", False),
    ],
)
def test_old_root(said: str, words: list[str], kept: str | None, released: bool, tmp_path: Path) -> None:
    """The command line decides."""
    arguments = parse_arguments(["pivot", "a", "--config", write(tmp_path, said), *words])
    add_from_file(arguments)
    assert (arguments.keep_old_root, arguments.release_old_root) == (kept, released)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_nothing(text: str, tmp_path: Path) -> None:
    arguments = parse_arguments(["build", "a", "--config", write(tmp_path, text)])
    add_from_file(arguments)
    assert arguments.source == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: a\nheadless: 1\nforce: true\n", ("'force' is unknown", "'sources' is not a list", "'headless'")),
        ("sources: [1]\n", ("'sources' is not a list of texts",)),
        ("via: magic\non-exit: [reboot]\n", ("'via' is not one of soft-reboot", "'on-exit' is not a text")),
        ("on-exit: sleep\n", ("'on-exit' is not one of reboot, poweroff, shell, return",)),
        ("keep-old-root: /old\nrelease-old-root: true\n", ("both keeps and releases the old root",)),
        ("- a\n", ("is not a mapping",)),
        ("a: [\n", ("is not YAML",)),
        ("!!python/object/apply:os.system [true]\n", ("is not YAML",)),
    ],
)
def test_mistakes(text: str, said: tuple[str, ...], tmp_path: Path) -> None:
    arguments = parse_arguments(["pivot", "--config", write(tmp_path, text)])
    with pytest.raises(ConfigError) as caught:
        add_from_file(arguments)
    assert all(part in caught.value.message for part in said)
    assert "pivot.yaml" in caught.value.message


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        add_from_file(parse_arguments(["pivot", "--config", "/no/such/file"]))
