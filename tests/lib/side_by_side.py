"""Rows of a table checked some at a time: what they wait for, they wait for together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pytest

SIZE: Final = 8
_RUN: Final = Path("/run/bootc-live")


class Named(Protocol):
    """A row; the name is unique in its table."""

    @property
    def name(self) -> str:
        """What failures are reported under, also a name for a directory."""


_Row = TypeVar("_Row", bound=Named)


def batches(rows: Sequence[_Row]) -> list[Any]:
    """The rows in batches, as values for `parametrize`; a batch's id has the names of its rows, for `-k`."""
    parts = [tuple(rows[begin : begin + SIZE]) for begin in range(0, len(rows), SIZE)]
    return [pytest.param(part, id="+".join(row.name for row in part)) for part in parts]


def side_by_side(rows: Sequence[_Row], check: Callable[[_Row, Path], None], where: Path) -> None:
    """Calls `check` for all rows at once, each with a new directory below `where`.

    Raises ExceptionGroup with the failure of every row that failed, with the row's name.
    """
    failures = []
    with _shared_run(), ThreadPoolExecutor(max_workers=len(rows)) as pool:
        futures = {}
        for row in rows:
            place = where / row.name
            place.mkdir()
            futures[row.name] = pool.submit(check, row, place)
        for name, future in futures.items():
            # An AssertionError is an Exception; what is not, such as an interrupt, ends it all.
            error = future.exception()
            if isinstance(error, Exception):
                error.add_note(f"row {name}")
                failures.append(error)
    if failures:
        names = ", ".join(note for error in failures for note in error.__notes__)
        raise ExceptionGroup(f"{len(failures)} of {len(rows)} failed: {names}", failures)


@contextmanager
def _shared_run() -> Iterator[None]:
    """Keeps the directory of all workspaces: a boot that ends takes it away if it is empty, as another one begins."""
    _RUN.mkdir()
    (_RUN / "in-use").touch()
    try:
        yield
    finally:
        (_RUN / "in-use").unlink()
        _RUN.rmdir()
