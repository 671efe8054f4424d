"""The only place that prints. Servers and images choose parts of the text, so control characters are escaped."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

LONGEST = 4096
_CUT = " … (cut)"
_KERNEL_LOG = "/dev/kmsg"
# The kernel rejects longer records. It prints level 3 (error) even with "quiet".
_RECORD, _LEVEL = 900, b"<3>"
_logs: list[str] = []


def one_line(text: str, limit: int = LONGEST) -> str:
    """Return a text as one line with unprintable characters escaped as in Python strings, cut to ``limit`` characters.

    Escaped are control characters, line breaks, bidirectional controls and bytes that are not UTF-8. Applying it again
    changes nothing.
    """
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(_escaped(character) for character in shown)
    return shown if len(shown) <= limit else shown[: limit - len(_CUT)] + _CUT


def print_message(text: str) -> None:
    """Print a line to standard error, which a unit connects to console and journal, and to the log if there is one."""
    print(f"bootc-live: {one_line(text)}", file=sys.stderr, flush=True)
    for path in _logs:
        # It must not end what it tells of.
        with suppress(OSError):
            append_message(path, text)


def log_messages(path: str) -> None:
    """Also append all messages to a file from now on. Raises OSError if that is impossible."""
    with open(path, "ab"):
        pass
    _logs.append(path)


def ask(question: str) -> str:
    """Return the line that somebody types in answer to a question; empty at the end of the input."""
    print(question, end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def print_details(lines: list[str]) -> None:
    """Print lines to standard error without a prefix."""
    print("\n".join(map(one_line, lines)), file=sys.stderr, flush=True)


def print_results(lines: list[str]) -> None:
    """Print the result of a verb to standard output. Line breaks inside a line are escaped: they are not ours."""
    print("\n".join(map(one_line, lines)))


def print_json(data: object) -> None:
    """Print the result of a verb as JSON."""
    print(format_json(data))


def format_json(data: object) -> str:
    """Return indented JSON in printable ASCII, uncut."""
    # The json module does not escape DEL.
    return json.dumps(data, indent=2).replace("\x7f", "\\u007f")


def append_message(path: str, text: str) -> None:
    """Append the line of ``print_message`` to a file. In the kernel log, each write is one record. Raises OSError."""
    line = f"bootc-live: {one_line(text)}".encode()
    with open(path, "ab", buffering=0) as file:
        if path != _KERNEL_LOG:
            file.write(line + b"\n")
            return
        for begin in range(0, len(line), _RECORD):
            file.write(_LEVEL + line[begin : begin + _RECORD] + b"\n")


def flush_results() -> None:
    """Flush standard output. Raises OSError, for example if the disk is full or the reader has closed the pipe."""
    # None if it was closed before the start.
    if sys.stdout is not None:
        sys.stdout.flush()


def discard_results() -> None:
    """Discard unwritten output after the reader has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
