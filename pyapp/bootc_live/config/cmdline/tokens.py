"""Split a kernel command line as ``next_arg()`` in the kernel's ``lib/cmdline.c`` does.

White space separates arguments. Double quotes group, and are removed only around a whole argument or a whole value.
A lone ``--``, quoted or not, ends the kernel's arguments; the rest is for init.
"""

from __future__ import annotations

from typing import NamedTuple

from bootc_live.base.redact import redact, redact_value

# The kernel's isspace() is Latin-1 and includes the no-break space.
_SPACE = frozenset(" \t\n\v\f\r\xa0")


class Token(NamedTuple):
    """One argument; ``value`` is None without ``=``."""

    name: str
    value: str | None

    def __str__(self) -> str:
        """Return the argument as typed, with quotes only if needed."""
        if not self.name or _SPACE & set(self.name):
            # White space in a name needs quotes around the whole argument.
            return f'"{self.name}"' if self.value is None else f'"{self.name}={self.value}"'
        if self.value is None:
            return self.name
        quote = '"' if _SPACE & set(self.value) else ""
        return f"{self.name}={quote}{self.value}{quote}"


_END = Token("--", None)


def split_cmdline(text: str) -> list[Token]:
    """Return the arguments of a kernel command line up to a lone ``--``."""
    return [read_word(word) for word in split_words(text)[0]]


def split_words(text: str) -> tuple[list[str], str]:
    """Return the arguments as typed, with their quotes, and the text after a lone ``--``."""
    words: list[str] = []
    position, end = 0, len(text)
    while True:
        while position < end and text[position] in _SPACE:
            position += 1
        if position == end:
            return words, ""
        start, in_quotes = position, False
        while position < end and (in_quotes or text[position] not in _SPACE):
            if text[position] == '"':
                in_quotes = not in_quotes
            position += 1
        word = text[start:position]
        if read_word(word) == _END:
            return words, text[position:].strip()
        words.append(word)


def read_word(word: str) -> Token:
    """Return the token of one argument as typed."""
    whole = word.startswith('"')
    if whole:
        word = word[1:]
    # The kernel searches "=" from the second character: "=x" is a name.
    cut = word.find("=", 1)
    if cut < 0:
        return Token(word.removesuffix('"') if whole else word, None)
    value = word[cut + 1 :]
    if value.startswith('"'):
        return Token(word[:cut], value[1:].removesuffix('"'))
    return Token(word[:cut], value.removesuffix('"') if whole else value)


def redact_cmdline(text: str) -> str:
    """Return arguments without their secrets; a text without secrets is returned unchanged.

    Arguments are redacted one by one, because quoted ones may contain white space.
    """
    words, for_init = split_words(text)
    shown, shown_for_init = [redact_value(word) for word in words], redact(for_init)
    if (shown, shown_for_init) == (words, for_init):
        return text
    return " ".join([*shown, *(["--", shown_for_init] if for_init else [])])
