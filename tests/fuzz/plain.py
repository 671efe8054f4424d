"""Fuzzing without coverage: changes of known inputs at random, where coverage would cost more than it finds."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from tests.fuzz.target import Target

_BYTES: Final = (0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF)


def replay(target: Target, corpus: Sequence[bytes], changes: int, seed: int) -> None:
    """Feed the corpus and so many changed inputs, always the same for a seed.

    Raises what the target raises, with the input as a note.
    """
    for data in (*corpus, *islice(_changes(target, corpus, seed), changes)):
        _feed(target, data)


def fuzz(target: Target, corpus: Sequence[bytes], seconds: float, seed: int) -> int:
    """Feed the corpus and what comes of it for so long; return how many inputs that were.

    Raises what the target raises, with the input as a note.
    """
    replay(target, corpus, 0, seed)
    end, inputs = time.monotonic() + seconds, _changes(target, corpus, seed)
    runs = len(corpus)
    while time.monotonic() < end:
        _feed(target, next(inputs))
        runs += 1
    return runs


def _changes(target: Target, corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    chance, known = random.Random(seed), [b"", *corpus]
    while True:
        yield changed(chance, chance.choice(known), known, target)


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
