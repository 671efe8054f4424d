"""Which verbs a corpus is put to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import pytest

# Every so many rows are unpacked, too; the others only if that is asked for.
_STEP: Final = 6


class Named(Protocol):
    """A row of a corpus."""

    @property
    def name(self) -> str:
        """Its name, unique in the corpus."""


def by_verbs(rows: Sequence[Named]) -> list[Any]:
    """Rows and verbs, as values for `parametrize`: all rows are booted, some of them are unpacked.

    A boot makes an index, and unpacking makes files.
    """
    booted = [pytest.param(row, "boot", id=f"{row.name}-boot") for row in rows]
    unpacked = [
        pytest.param(row, "unpack", id=f"{row.name}-unpack", marks=[pytest.mark.long] if number % _STEP else [])
        for number, row in enumerate(rows)
    ]
    return booted + unpacked
