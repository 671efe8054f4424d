"""The one exception tree; only ``__main__`` turns it into text and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.redact import redact


class BootcLiveError(Exception):
    """A failure a person has to read.

    ``message`` says what failed and quotes the argument or URL as typed;
    ``hint`` says what to do about it.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        """Keep both parts."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Give the message alone, with what was added to it."""
        return self.message


class ConfigError(BootcLiveError):
    """The kernel command line or a command's arguments cannot be used."""


class SourceError(BootcLiveError):
    """An image could not be fetched or read from where it was said to be."""


class ImageError(BootcLiveError):
    """What was fetched is not the image it claims to be, or not a usable one."""


class RootfsError(BootcLiveError):
    """A verified image could not be made into a root file system."""


class LandingError(BootcLiveError):
    """A finished root could not be handed over."""


class RunError(BootcLiveError):
    """A program this one relies on is missing or failed."""


class OutOfMemoryError(BootcLiveError):
    """RAM (or the file system that stands for it) is full."""


class AdmissionError(OutOfMemoryError):
    """An image would not fit into RAM; known before any of its layers was fetched."""


@contextmanager
def source_border(what: str) -> Iterator[None]:
    """Turn whatever the block raises that is none of these errors into a SourceError about ``what``.

    Servers and archives choose the bytes that libraries read, and no list of what those raise is complete:
    MemoryError and RecursionError are on it, too. It ends one source, never the boot.
    """
    try:
        yield
    except BootcLiveError:
        raise
    except Exception as error:
        raise SourceError(
            f"{what} cannot be used: unexpected {type(error).__name__}: {redact(str(error))}",
            hint="check the source; if it is in order, report this as a defect of bootc-live",
        ) from error
