"""The tokeniser splits as the kernel's next_arg() does: white space, quotes, a lone `--`."""

from __future__ import annotations

import pytest

from bootc_live.config.cmdline.tokens import Token, read_word, redact_cmdline, split_cmdline, split_words

TABLE: tuple[tuple[str, list[tuple[str, str | None]]], ...] = (
    ("", []),
    (" \t\n ", []),
    ("rw", [("rw", None)]),
    ("a b", [("a", None), ("b", None)]),
    ("  a\tb\nc\v\fd\r", [("a", None), ("b", None), ("c", None), ("d", None)]),
    ("a=1", [("a", "1")]),
    ("a=", [("a", "")]),
    ("a=b=c", [("a", "b=c")]),
    ("=x", [("=x", None)]),
    ("=x=y", [("=x", "y")]),
    ("==", [("=", "")]),
    ('a="b c"', [("a", "b c")]),
    ('a="b\tc" d', [("a", "b\tc"), ("d", None)]),
    ('"a=b c"', [("a", "b c")]),
    ('"a b"', [("a b", None)]),
    ('"a b"=c', [('a b"', "c")]),
    ('a=""', [("a", "")]),
    ('a="', [("a", "")]),
    ('"', [("", None)]),
    ('""', [("", None)]),
    ('a=x"y z"', [("a", 'x"y z"')]),
    ('a="b"c d', [("a", 'b"c'), ("d", None)]),
    ('a="b"c"d e" f', [("a", 'b"c"d e'), ("f", None)]),
    ('a="b c', [("a", "b c")]),
    ("a='b c'", [("a", "'b"), ("c'", None)]),
    (r"a=b\ c", [("a", "b\\"), ("c", None)]),
    ("a=1 a=2 a", [("a", "1"), ("a", "2"), ("a", None)]),
    ("a-b=1 a_b=2", [("a-b", "1"), ("a_b", "2")]),
    ("a -- b=1", [("a", None)]),
    ("--", []),
    # The quotes of a whole argument are gone before it is compared.
    ('a "--" b=1', [("a", None)]),
    ('a "--', [("a", None)]),
    ('a "--"x" b', [("a", None), ('--"x" b', None)]),
    ('a ""--"" b', [("a", None), ('"--"', None), ("b", None)]),
    ('a --"" b', [("a", None), ('--""', None), ("b", None)]),
    ('a "-- b" c', [("a", None), ("-- b", None), ("c", None)]),
    ("--x a", [("--x", None), ("a", None)]),
    ("-- -- a", []),
    ("a --=1 b", [("a", None), ("--", "1"), ("b", None)]),
    ("root=/dev/sda1 # no comment", [("root", "/dev/sda1"), ("#", None), ("no", None), ("comment", None)]),
    ("a=é b=日本", [("a", "é"), ("b", "日本")]),
    ("a=\udcff", [("a", "\udcff")]),
)


@pytest.mark.parametrize(("text", "tokens"), TABLE, ids=[repr(text) for text, _ in TABLE])
def test_split(text: str, tokens: list[tuple[str, str | None]]) -> None:
    assert split_cmdline(text) == [Token(*token) for token in tokens]


def test_position_makes_no_difference() -> None:
    """Any two command lines joined by a blank give the tokens of both, unless a quote or `--` reaches over."""
    closed = [(text, tokens) for text, tokens in TABLE if text.count('"') % 2 == 0 and "--" not in text]
    for text, tokens in closed:
        for after, more in closed:
            assert split_cmdline(f"{text} {after}") == [Token(*token) for token in (*tokens, *more)]


@pytest.mark.parametrize(
    ("text", "words", "behind"),
    [
        ("", [], ""),
        (' a  b="c  d"\t"e f=g" ', ["a", 'b="c  d"', '"e f=g"'], ""),
        ('a -- b="c  d"  -- e ', ["a"], 'b="c  d"  -- e'),
        ('a="-- b" --', ['a="-- b"'], ""),
        ('a b="c d', ["a", 'b="c d'], ""),
    ],
)
def test_words_stay_as_typed(text: str, words: list[str], behind: str) -> None:
    assert split_words(text) == (words, behind)
    assert [read_word(word) for word in words] == split_cmdline(text)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (Token("rw", None), "rw"),
        (Token("a", ""), "a="),
        (Token("a", "b"), "a=b"),
        (Token("a", "b c"), 'a="b c"'),
        (Token("a", 'b"c'), 'a=b"c'),
        (Token("a b", None), '"a b"'),
        (Token("a b", "c d"), '"a b=c d"'),
        (Token("", None), '""'),
    ],
)
def test_shown_as_typed(token: Token, shown: str) -> None:
    assert str(token) == shown
    assert split_cmdline(shown) == [token]


def test_long_lines_are_quick() -> None:
    assert len(split_cmdline("a=1 " * 50_000)) == 50_000


def test_a_no_break_space_separates() -> None:
    """The kernel's isspace() is that of Latin-1."""
    assert split_cmdline("a\xa0b=\xa0c") == [Token("a", None), Token("b", ""), Token("c", None)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("root=/x rw", "root=/x rw"),
        ("root=bootc-live:https://me:pw@a/x?b rw", "root=bootc-live:https://***@a/x?*** rw"),
        ('a="https://me:p w@a/x" proxy="me:p w@h:1"', 'a="https://***@a/x" proxy="***'),
        ('"a=https://me:p w@a/x?y z" b', '"a=https://***@a/x?*** b'),
        ("a -- https://me:pw@a/x", "a -- https://***@a/x"),
        ('a="https://me:p w@a/x and b', 'a="https://***@a/x and b'),
    ],
)
def test_secrets_are_hidden_by_argument(text: str, shown: str) -> None:
    assert redact_cmdline(text) == shown
