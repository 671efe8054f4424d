"""Split a kernel command line exactly as the kernel does.

Follows ``next_arg()`` of the kernel's ``lib/cmdline.c``: white space separates,
double quotes group and are stripped only around a whole argument or a whole
value, and a lone ``--``, quoted or not, hands the rest to init.
"""

from __future__ import annotations

from typing import NamedTuple

from bootc_live.base.redact import redact, redact_value

# The kernel's isspace() is Latin-1: a no-break space separates too.
_SPACE = frozenset(" \t\n\v\f\r\xa0")


class Token(NamedTuple):
    """One argument: ``value`` is None where there was no ``=``."""

    name: str
    value: str | None

    def __str__(self) -> str:
        """Give the argument as it would be typed (quotes only where needed)."""
        if not self.name or _SPACE & set(self.name):
            # Only quotes around the whole take in what stands before "=".
            return f'"{self.name}"' if self.value is None else f'"{self.name}={self.value}"'
        if self.value is None:
            return self.name
        quote = '"' if _SPACE & set(self.value) else ""
        return f"{self.name}={quote}{self.value}{quote}"


_END = Token("--", None)


def split_cmdline(text: str) -> list[Token]:
    """Give the arguments of a kernel command line, in order, up to a lone ``--``."""
    return [read_word(word) for word in split_words(text)[0]]


def split_words(text: str) -> tuple[list[str], str]:
    """Give the arguments as they are typed, quotes and all, and what stands behind a lone ``--``."""
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
    """Give the argument that is typed as one word."""
    whole = word.startswith('"')
    if whole:
        word = word[1:]
    # The kernel looks for "=" from the second character on: "=x" is a name.
    cut = word.find("=", 1)
    if cut < 0:
        return Token(_drop_end(word) if whole else word, None)
    value = word[cut + 1 :]
    if value.startswith('"'):
        return Token(word[:cut], _drop_end(value[1:]))
    return Token(word[:cut], _drop_end(value) if whole else value)


def redact_cmdline(text: str) -> str:
    """Return arguments without their secrets, one by one: a quoted one may hold white space, and so may a password.

    What holds no secret comes back as it is.
    """
    words, behind = split_words(text)
    shown, shown_behind = [redact_value(word) for word in words], redact(behind)
    if (shown, shown_behind) == (words, behind):
        return text
    return " ".join([*shown, *(["--", shown_behind] if behind else [])])


def _drop_end(text: str) -> str:
    return text[:-1] if text.endswith('"') else text
