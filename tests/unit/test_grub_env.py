"""GRUB's environment block, without GRUB; tests/integration/test_boot_loaders.py compares it with grub-editenv."""

from __future__ import annotations

import pytest

from bootc_live.formats.grub_env import SECTOR, SIZE, read_block, write_block

BLOCKS: list[dict[str, str]] = [
    {},
    {"a": ""},
    {"a": "b", "c": "d=e"},
    {"entries": "10-3+2-1 9-2", "other": "x"},
    {"path": "a\\b\\", "lines": "one\ntwo\\\n"},
    {"name": "ä"},
]


@pytest.mark.parametrize("variables", BLOCKS)
def test_block_is_written_and_read(variables: dict[str, str]) -> None:
    block = write_block(variables)
    assert len(block) == SIZE
    assert block[SECTOR:] == b"#" * (SIZE - SECTOR)
    assert read_block(block) == variables


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("# WARNING: Do not edit\na=b\n#####", {"a": "b"}),
        ("#c=d\na=b\nno variable\n", {"a": "b"}),
        # What is not ended does not count.
        ("a=b\nc=d", {"a": "b"}),
        ("", {}),
    ],
)
def test_block_of_others(text: str, variables: dict[str, str]) -> None:
    assert read_block(f"# GRUB Environment Block\n{text}".encode()) == variables


@pytest.mark.parametrize("data", [b"", b"# GRUB", bytes(1024), b"a=b\n"])
def test_no_block(data: bytes) -> None:
    with pytest.raises(ValueError, match="no signature"):
        read_block(data)


def test_block_is_one_sector() -> None:
    most = SECTOR - len("# GRUB Environment Block\na=\n")
    assert len(write_block({"a": "x" * most})) == SIZE
    with pytest.raises(ValueError, match="513 bytes, but 512"):
        write_block({"a": "x" * (most + 1)})
