"""Sizes in text."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB


def mib(count: int) -> str:
    """Format bytes as MiB with one decimal, such as ``356.9 MiB``, and less than one MiB as KiB, rounded up."""
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{-(-count // KIB)} KiB"
