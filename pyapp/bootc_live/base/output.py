"""The one way out for text: console, journal, kernel log, terminal. Servers and images choose parts of it."""

from __future__ import annotations

import json
import os
import sys

LONGEST = 4096
_CUT = " … (cut)"
_KERNEL_LOG = "/dev/kmsg"
# The kernel refuses longer records; 3 is its level for errors, which it shows even with "quiet".
_RECORD, _LEVEL = 900, b"<3>"


def one_line(text: str, limit: int = LONGEST) -> str:
    """Return a text as one line that a terminal only shows: what is not printable is escaped as in Python's strings.

    That is so for control characters, line breaks, signs that change the direction of writing, and bytes that are no
    UTF-8. At most ``limit`` characters are left. Doing it again changes nothing.
    """
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(_escaped(character) for character in shown)
    return shown if len(shown) <= limit else shown[: limit - len(_CUT)] + _CUT


def tell(text: str) -> None:
    """Write one line of ours for a person to standard error: the console and the journal."""
    print(f"bootc-live: {one_line(text)}", file=sys.stderr, flush=True)


def tell_details(lines: list[str]) -> None:
    """Write lines to standard error as they are, with nothing in front."""
    print("\n".join(map(one_line, lines)), file=sys.stderr, flush=True)


def answer(lines: list[str]) -> None:
    """Write what a verb was asked for to standard output: lines, because a break inside one of them is forged."""
    print("\n".join(map(one_line, lines)))


def answer_json(data: object) -> None:
    """Write what a verb was asked for as JSON."""
    print(shown_json(data))


def shown_json(data: object) -> str:
    """Return JSON that may be looked at on a terminal: lines of printable ASCII, and nothing is cut."""
    # json leaves the last control character of ASCII alone.
    return json.dumps(data, indent=2).replace("\x7f", "\\u007f")


def append_to(path: str, text: str) -> None:
    """Add the line that ``tell`` writes to a file; in the kernel's log, one write is one record. Raises OSError."""
    line = f"bootc-live: {one_line(text)}".encode()
    with open(path, "ab", buffering=0) as file:
        if path != _KERNEL_LOG:
            file.write(line + b"\n")
            return
        for begin in range(0, len(line), _RECORD):
            file.write(_LEVEL + line[begin : begin + _RECORD] + b"\n")


def flush_answers() -> None:
    """Raise OSError where what was answered cannot be written: a full disk, a reader that has gone."""
    # None where it was closed before the start.
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_answers() -> None:
    """Let what is not written yet go nowhere, for a reader that has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
