"""Fuzzing without coverage: changes of known inputs at random, where there is no atheris."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from tests.fuzz.target import Target

_BYTES: Final = (0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF)


def fuzz(target: Target, corpus: Sequence[bytes], seconds: float, seed: int) -> int:
    """Feed the corpus and what comes of it for so long; return how many inputs that were.

    Raises what the target raises, with the input as a note.
    """
    chance, end, runs = random.Random(seed), time.monotonic() + seconds, 0
    for data in corpus:
        _feed(target, data)
    known = [b"", *corpus]
    while time.monotonic() < end:
        _feed(target, changed(chance, chance.choice(known), known, target))
        runs += 1
    return len(corpus) + runs


def changed(chance: random.Random, data: bytes, known: Sequence[bytes], target: Target) -> bytes:
    """Return an input with a few changes."""
    for _ in range(chance.randint(1, 5)):
        at = chance.randint(0, len(data))
        to = min(len(data), at + chance.choice((0, 1, 1, 2, 4, 12, 64)))
        match chance.randrange(6):
            case 0:
                part = bytes([chance.choice(_BYTES)])
            case 1:
                part = chance.randbytes(to - at)
            case 2:
                part = b""
            case 3:
                part = data[at:to] * 2
            case 4 if target.words:
                part = chance.choice(target.words)
            case _:
                other = chance.choice(known)
                start = chance.randint(0, len(other))
                part = other[start : start + chance.choice((1, 8, 100, 512))]
        data = data[:at] + part + data[to:]
    return data[: target.largest]


def _feed(target: Target, data: bytes) -> None:
    try:
        target.feed(data)
    except BaseException as error:
        error.add_note(f"with the input {data!r}")
        raise
