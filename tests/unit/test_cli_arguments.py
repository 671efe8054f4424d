"""SOURCE as people type it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.cli.options.arguments import labels_argument, layered_argument, source_argument
from bootc_live.cli.options.parser import parse_arguments
from bootc_live.config.source_spec import ArchiveFile, RegistryImage


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x:1.oci").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    found = source_argument(argparse.Namespace(source="x:1.oci"))
    assert isinstance(found, ArchiveFile)
    assert found.path == str(tmp_path / "x:1.oci")


def test_url() -> None:
    assert isinstance(source_argument(argparse.Namespace(source="docker://registry.example/os:1")), RegistryImage)


@pytest.mark.parametrize(
    ("source_text", "said"),
    [
        ("missing.oci", "'missing.oci' is not a file or directory"),
        ("down/missing.oci", "'down/missing.oci' is not a file or directory"),
        ("LABEL=USB", "'LABEL=USB' "),
        ("/dev/sda1", "'/dev/sda1' "),
        ("", "'' is neither an absolute path nor a URL"),
        ("registry.example/os:1", "'registry.example/os:1' is neither an absolute path nor a URL"),
    ],
)
def test_what_is_not_there(source_text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        source_argument(argparse.Namespace(source=source_text))
    assert caught.value.message.startswith(said)
    assert ("not a file" in caught.value.message) == source_text.endswith(".oci")
    assert "docker://" in caught.value.hint or "--help" in caught.value.hint


def labels(words: list[str], where: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, dict[str, str]]:
    """The labels of a command line in a directory with two archives and a directory of files."""
    for name in ("a", "b"):
        (where / name / "blobs").mkdir(parents=True)
        (where / name / "index.json").touch()
    (where / "files").mkdir()
    monkeypatch.chdir(where)
    arguments = parse_arguments(["build", *words])
    return labels_argument(arguments, layered_argument(arguments))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["./a"], (None, {})),
        (["./a", "--label", "v2"], ("v2", {})),
        (["docker://registry.example/os:1", "./a", "./files", "--label", "os:v2"], ("os:v2", {})),
        (["./a", "./b", "--label", "b=v2"], (None, {"b": "v2"})),
        (["./a", "./b", "--label", "./b=v2", "--label", "./a=v1"], (None, {"b": "v2", "a": "v1"})),
    ],
)
def test_labels(
    words: list[str], expected: tuple[str | None, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, named = labels(words, tmp_path, monkeypatch)
    assert (plain, {Path(text).name: label for text, label in named.items()}) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["./a", "./b", "--label", "v2"], "may be meant for several archives"),
        (["./a", "--label", "v1", "--label", "v2"], "may be meant for several archives"),
        (["./a", "--label", "./b=v2"], "is for './b', which is no archive among the sources"),
        (["./a", "./files", "--label", "./files=v2"], "is for './files', which is no archive among the sources"),
    ],
)
def test_labels_that_could_be_misunderstood(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        labels(words, tmp_path, monkeypatch)
    assert said in caught.value.message
    assert "--label SOURCE=NAME" in caught.value.hint
