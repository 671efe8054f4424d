"""Name the dracut module that an initramfs lacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import SourceError


@contextmanager
def requiring(module: str, source_text: str) -> Iterator[None]:
    """Raise SourceError if an import of the block fails: the initramfs was built without the dracut module."""
    try:
        yield
    except ImportError as error:
        raise SourceError(
            f"cannot fetch {source_text!r}: this initramfs contains no support for it ({error})",
            hint=f"rebuild it with the dracut module {module}",
        ) from error
