"""SOURCE as people type it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.cli.options.arguments import source_argument
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
