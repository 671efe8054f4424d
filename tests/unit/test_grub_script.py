"""What GRUB is given; tests/vm/test_boot_partition.py boots it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.artifacts.netboot.loader_files import grub_words
from bootc_live.base.errors import ConfigError
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition.grub_script import environment_word, menu_entry
from bootc_live.system.files import sync_filesystem


def test_menu_entry() -> None:
    entry = Entry(EntryName(8, 4, 3), "It's \\4", 'root=UUID=1 a="b c" d;e -- f', "/bootc-live/ab/vmlinuz", "/b/initrd")
    assert menu_entry(entry) == (
        "menuentry 'Its 4' --id bootc-live-8-4 {\n"
        "\tbootc_live_count 8-4\n"
        "\tlinux /bootc-live/ab/vmlinuz root=UUID=1 'a=b c' 'd;e' -- f\n"
        "\tinitrd /b/initrd\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (EntryName(8, 4), "8-4"),
        # GRUB's regular expressions cannot have parts that are missing.
        (EntryName(8, 4, 3), "8-4+3-0"),
        (EntryName(8, 4, 0, 3), "8-4+0-3"),
    ],
)
def test_environment_word(name: EntryName, word: str) -> None:
    assert environment_word(name) == word


@pytest.mark.parametrize(
    ("cmdline", "words"),
    [
        ("", []),
        ("a b=c", ["a", "b=c"]),
        ('a "b c"', ["a", "'b c'"]),
        ("a -- b", ["a", "--", "b"]),
        ('a -- b "c d" -- e', ["a", "--", "b", "'c d'", "--", "e"]),
    ],
)
def test_words(cmdline: str, words: list[str]) -> None:
    assert grub_words(cmdline) == words


@pytest.mark.parametrize("cmdline", ["a'b", "a\\b", 'a"b"c', "x -- a'b"])
def test_words_that_grub_would_change(cmdline: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written for GRUB"):
        grub_words(cmdline)


def test_file_system_is_synced(tmp_path: Path) -> None:
    sync_filesystem(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(str(tmp_path / "missing"))
