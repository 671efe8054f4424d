"""Which verbs and layouts a corpus is put to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final, Protocol

import pytest

from tests.integration.corpus import WRITTEN
from tests.integration.corpus.case import Case

_WRITTEN: Final = {case.name for case in WRITTEN}


class Named(Protocol):
    """A row of a corpus."""

    @property
    def name(self) -> str:
        """Its name, unique in the corpus."""


def by_verbs(rows: Sequence[Named], step: int) -> list[Any]:
    """Rows and verbs, as values for `parametrize`: all rows are booted, every so many are unpacked, too.

    A boot makes an index, and unpacking makes files. The long form unpacks all.
    """
    booted = [pytest.param(row, "boot", id=f"{row.name}-boot") for row in rows]
    unpacked = [
        pytest.param(row, "unpack", id=f"{row.name}-unpack", marks=[pytest.mark.long] if number % step else [])
        for number, row in enumerate(rows)
    ]
    return booted + unpacked


def for_layouts(cases: Sequence[Case], *others: Sequence[object]) -> list[Any]:
    """Return cases for layouts beside the index, each with its turn of `others`, as values for `parametrize`.

    Those that another part than the layout decides are for the long form.
    """
    return [
        pytest.param(*row, id="-".join([row[0].name, *map(str, row[1:])]), marks=marks)
        for row in zip(cases, *map(cycle, others), strict=False)
        for marks in ([] if row[0].name in _WRITTEN else [pytest.mark.long],)
    ]
