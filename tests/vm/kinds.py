"""The kinds of guests that boot a row: the cheapest one that has what the row needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import pytest

from tests.vm.rows import Needs, Row
from vmkit import namespaces, uml


class Kind(StrEnum):
    """What a guest runs on."""

    NAMESPACES = "namespaces"
    """The kernel of this machine, a few seconds a boot."""
    UML = "User-mode Linux"
    """A kernel and a memory of its own, a third of the time of an emulated machine."""
    QEMU = "QEMU"
    """A whole machine, emulated where KVM does not work."""


@cache
def obstacle() -> str | None:
    """Return why this machine cannot boot guests in namespaces, None if it can."""
    return namespaces.obstacle()


def cheapest(row: Row) -> Kind:
    """Return the cheapest kind of guest that can be this row."""
    if row.needs is Needs.NOTHING and obstacle() is None:
        return Kind.NAMESPACES
    return own_kernel() if row.needs is Needs.KERNEL else Kind.QEMU


def own_kernel() -> Kind:
    """Return the cheapest kind of guest that has a kernel of its own."""
    return Kind.UML if uml.installed() else Kind.QEMU


def boots(rows: Sequence[Row]) -> Iterator[Any]:
    """Yield parameters of (row, kind): each row in its cheapest kind, and marked `long` in QEMU, too."""
    for row in rows:
        kind = cheapest(row)
        yield pytest.param((row, kind), id=str(row))
        if kind is not Kind.QEMU:
            yield pytest.param((row, Kind.QEMU), id=f"{row}, in QEMU", marks=pytest.mark.long)
