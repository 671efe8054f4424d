"""Names, files and order of menu entries."""

from __future__ import annotations

import pytest

from bootc_live.formats.boot_entry import Entry, EntryName, boot_order, entry_text, parse_entry, parse_name

NAMES = [
    ("bootc-live-1-1", EntryName(1, 1)),
    ("bootc-live-12-3+3", EntryName(12, 3, 3)),
    ("bootc-live-12-3+2-1", EntryName(12, 3, 2, 1)),
    ("bootc-live-12-3+0-3", EntryName(12, 3, 0, 3)),
    ("bootc-live-12-3+0", EntryName(12, 3, 0)),
    ("bootc-live-999999999-999999999+10-20", EntryName(999_999_999, 999_999_999, 10, 20)),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_name_is_read_and_written(text: str, name: EntryName) -> None:
    assert parse_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        # FAT ignores case, and other programs fill counters with zeros.
        ("BOOTC-LIVE-4-2+1", EntryName(4, 2, 1)),
        ("bootc-live-4-2+03-00", EntryName(4, 2, 3, 0)),
    ],
)
def test_name_as_others_write_it(text: str, name: EntryName) -> None:
    assert parse_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bootc-live",
        "bootc-live-1",
        "bootc-live-1-",
        "bootc-live-0-1",
        "bootc-live-1-0",
        "bootc-live-01-1",
        "bootc-live-1-1+",
        "bootc-live-1-1+-1",
        "bootc-live-1-1+3-",
        "bootc-live-1-1-1",
        "bootc-live-1-1+3-1-1",
        "bootc-live-1-1+3.conf",
        "bootc-live-1-1\n",
        "bootc-live-1000000000-1",
        "bootc-live-1-1+٣",
        "debian-1-1",
        " bootc-live-1-1",
    ],
)
def test_name_of_others(text: str) -> None:
    assert parse_name(text) is None


@pytest.mark.parametrize(
    "ordered",
    [
        ["2-1", "1-2"],
        ["10-1", "9-2"],
        ["2-2+3", "1-1"],
        ["2-2+1-2", "1-1"],
        # Without tries, an entry comes last, and good ones that are older are started.
        ["1-1", "2-2+0-3"],
        ["3-3", "2-2+0-1", "1-1+0-3"],
        ["1-1", "3-3+0-3", "2-2+0-3"],
        # What a power cut in a rename leaves.
        ["2-2+3", "2-2+2-1"],
        ["2-2+2-1", "2-2+2-2"],
    ],
)
def test_order(ordered: list[str]) -> None:
    names = [parse_name(f"bootc-live-{text}") for text in ordered]
    found = sorted((name for name in reversed(names) if name), key=boot_order)
    assert found == names


TYPE1 = """\
title Debian 13 (deployment 4)
sort-key bootc-live
version 8
options root=UUID=1 dyndbg="file a.c +p; file b.c +p"  x='y' $z # -- init
initrd /bootc-live/ab/initrd
linux /bootc-live/ab/vmlinuz
"""


def test_entry_is_written_and_read() -> None:
    cmdline = TYPE1.partition("options ")[2].splitlines()[0]
    entry = Entry(
        EntryName(8, 4, 3), "Debian 13 (deployment 4)", cmdline, "/bootc-live/ab/vmlinuz", "/bootc-live/ab/initrd", "/p"
    )
    assert entry_text(entry) == TYPE1
    assert parse_entry(TYPE1, entry.name, "/p") == entry


def test_entry_of_a_uki_is_written_and_read() -> None:
    entry = Entry(EntryName(8, 4), "Debian", "", "/bootc-live/ab/vmlinuz", "", "/p")
    assert "\nefi /bootc-live/ab/vmlinuz\n" in entry_text(entry)
    assert "options" not in entry_text(entry)
    assert parse_entry(entry_text(entry), entry.name, "/p") == entry


def test_entry_as_others_write_it() -> None:
    text = "# linux /no\n\n\ttitle\t A  b \nlinux    /k\r\noptions a\noptions  b=c \nunknown\n"
    assert parse_entry(text, EntryName(1, 1), "/p") == Entry(EntryName(1, 1), "A  b", "a b=c", "/k", "", "/p")
