"""Kernel command lines: read as the kernel reads them, and without what an image may not ask for."""

from __future__ import annotations

import re
from typing import Final

from bootc_live.base.errors import BootcLiveError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import Token, read_word, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline
from bootc_live.config.next_kernel.image_kargs import _folded, _is_for_disk, _is_refused
from bootc_live.config.next_kernel.kargs_d import printable_words

_ROOT: Final = "root=bootc-live:docker://registry.example/os:stable"
_SPACE: Final = " \t\n\x0b\x0c\r\xa0"
_PASSWORD: Final = "n0b0dy"
_DIGEST: Final = f"sha256:{'5' * 64}"


def command_line(data: bytes) -> None:
    """Read a line, and the next kernel's of it and of what follows its first NUL, which an image brings along."""
    first, _, rest = data.partition(b"\0")
    here = first.decode("utf-8", "surrogateescape")
    found = split_cmdline(here)
    assert found == _as_the_kernel(here), "the kernel reads something else"
    words, behind = split_words(here)
    assert [read_word(word) for word in words] == found
    _hide(here)
    for token in found:
        if '"' not in token.name + (token.value or ""):
            assert split_cmdline(str(token)) == [token]
    _next(here, rest.decode("utf-8", "replace"))
    assert behind == behind.strip()
    parse_cmdline(here)


def _as_the_kernel(text: str) -> list[Token]:
    """next_arg() and parse_args() of the kernel, lib/cmdline.c and kernel/params.c, written down index by index."""
    found = []
    rest = text.lstrip(_SPACE)
    while rest:
        quoted = in_quotes = rest[0] == '"'
        rest = rest[1:] if quoted else rest
        equals = end = 0
        while end < len(rest) and (in_quotes or rest[end] not in _SPACE):
            if equals == 0 and rest[end] == "=":
                equals = end
            in_quotes ^= rest[end] == '"'
            end += 1
        word, rest = rest[:end], rest[end + 1 :].lstrip(_SPACE)
        if quoted and word.endswith('"'):
            word = word[:-1]
        name, value = (word[:equals], word[equals + 1 :]) if equals else (word, None)
        if value is not None and value.startswith('"'):
            # Where the quote was of the whole, it is gone by now.
            value = value[1:] if quoted or not value.endswith('"') or len(value) == 1 else value[1:-1]
        if (name, value) == ("--", None):
            break
        found.append(Token(name, value))
    return found


def _hide(here: str) -> None:
    """Show a line that has a password somewhere: what stands before it does not bring it to light."""
    text = f"{here} root=bootc-live:https://me:{_PASSWORD}@h/x"
    shown = redact_cmdline(text)
    try:
        parse_cmdline(f"{text} bootc.wrong=http://me:{_PASSWORD}@h")
    except BootcLiveError as error:
        shown += str(error)
    assert _PASSWORD not in shown


def _next(here: str, of_image: str) -> None:
    """Make the next kernel's line with and without what an image asks for."""
    try:
        asked = printable_words(of_image)
    except ValueError:
        return
    try:
        without, made = (next_cmdline(f"{_ROOT} {here}", image, Kexec(), _DIGEST, here) for image in ((), asked))
    except BootcLiveError:
        # Another root= of this boot's own.
        return
    for names in (_kernel, _systemd, _dracut):
        added = {name for name in names(made) - names(without) if _is_refused(name) or _is_for_disk(name)}
        assert not added, f"an image adds {added}"


def _kernel(line: str) -> set[str]:
    return {_folded(token.name) for token in _as_the_kernel(line)}


def _dracut(line: str) -> set[str]:
    """Return the names of arguments for dracut's shell, which splits at blanks and leaves quotes where they are.

    A name with a quote in it is nobody's.
    """
    names = {_folded(word.partition("=")[0]) for word in re.split(r"[ \t\n]+", line)}
    return {name for name in names if not set(name) & set("\"'")}


def _systemd(line: str) -> set[str]:
    """Return the names of arguments as extract_first_word() of systemd finds them, quotes within words included."""
    words, word, quote, begun = [], "", "", False
    for letter in [*line, " "]:
        if quote and letter == quote:
            quote = ""
        elif quote:
            word += letter
        elif letter in "\"'":
            quote, begun = letter, True
        elif letter in " \t\n\r":
            if word or begun:
                words.append(word)
            word, begun = "", False
        else:
            word += letter
    # One whose quote is open ends with the line.
    return {_folded(word.partition("=")[0]) for word in [*words, word]}
