"""Sizes in text."""

from __future__ import annotations

MIB = 1024 * 1024


def mib(count: int) -> str:
    """Format bytes as MiB with one decimal, such as ``356.9 MiB``."""
    return f"{count / MIB:.1f} MiB"
