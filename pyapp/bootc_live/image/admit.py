"""The question whether an image may be fetched at all, asked once it is known and before its first layer comes."""

from __future__ import annotations

from collections.abc import Callable

from bootc_live.image.verified import ResolvedImage
from bootc_live.source.interface import AnySource

# Raises AdmissionError where the answer is no.
Admit = Callable[[AnySource, ResolvedImage], None]


def admit_all(_source: AnySource, _image: ResolvedImage) -> None:
    """Say yes to every image."""
