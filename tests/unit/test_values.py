"""Values of arguments: every boolean word in any case, sizes, texts."""

from __future__ import annotations

import pytest

from bootc_live.config.values import BOOLEAN_WORDS, parse_boolean, parse_size, parse_text

TRUE = ("1", "yes", "on", "true", "y")
FALSE = ("0", "no", "off", "false", "n")
KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40


@pytest.mark.parametrize("change", [str, str.upper, str.title, str.swapcase])
@pytest.mark.parametrize("word", [*TRUE, *FALSE])
def test_boolean_words(word: str, change: type[str]) -> None:
    assert parse_boolean(change(word)) is (word in TRUE)


def test_boolean_without_value_is_true() -> None:
    assert parse_boolean(None) is True


@pytest.mark.parametrize("text", ["", " ", "2", "-1", "00", "01", "yess", "tru", "t", "f", "enabled", "1 ", " 1", "ｙ"])
def test_not_a_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="not a boolean") as caught:
        parse_boolean(text)
    assert BOOLEAN_WORDS in str(caught.value)


def test_the_words_in_messages_are_the_words() -> None:
    first, _, second = BOOLEAN_WORDS.partition(" / ")
    assert first.split() == list(TRUE)
    assert second.split() == list(FALSE)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("512B", 512),
        ("1K", KIB),
        ("1k", KIB),
        ("512M", 512 * MIB),
        ("512m", 512 * MIB),
        ("512MB", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("8G", 8 * GIB),
        ("8gib", 8 * GIB),
        ("2T", 2 * TIB),
        ("007M", 7 * MIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", [None, "", "0", "0G", "G", "-1G", "+1G", "1.5G", "1 G", "8GG", "50%", "0x10", "1P", "٣"]
)
def test_not_a_size(text: str | None) -> None:
    with pytest.raises(ValueError, match="such as 8G"):
        parse_size(text)


def test_text() -> None:
    assert parse_text("x y") == "x y"


@pytest.mark.parametrize("text", [None, ""])
def test_text_must_not_be_empty(text: str | None) -> None:
    with pytest.raises(ValueError, match="needs a value"):
        parse_text(text)
