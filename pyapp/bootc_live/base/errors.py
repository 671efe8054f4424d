"""All errors that a person reads; only ``__main__`` turns them into text and an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bootc_live.base.redact import redact

_IT = "it "


class BootcLiveError(Exception):
    """A failure: ``message`` says what failed and quotes the argument or URL as typed, ``hint`` says what to do.

    A message that begins with ``it`` leaves its subject to ``about``. ``status`` is that of this program then.
    """

    status = 1

    def __init__(self, message: str, *, hint: str) -> None:
        """Set both parts."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message without the hint."""
        return self.message


class ConfigError(BootcLiveError):
    """The kernel command line or an argument of a command is wrong."""


class SourceError(BootcLiveError):
    """An image could not be fetched or read from its source."""


class ImageError(BootcLiveError):
    """The fetched data is not the expected image, or the image is not usable."""


class TrustError(ImageError):
    """An image may not be used: a signature, a policy or its age forbids it."""


class RootfsError(BootcLiveError):
    """No root file system could be made from a verified image."""


class LandingError(BootcLiveError):
    """The boot could not continue in a finished root or in the next kernel."""


class RunError(BootcLiveError):
    """A required program or kernel feature is missing or failed."""


class FailedProgramError(RunError):
    """A program that this one was told to run failed; ``status`` is its own, as a shell gives it."""

    def __init__(self, message: str, *, hint: str, status: int = 1) -> None:
        """Set all parts."""
        super().__init__(message, hint=hint)
        self.status = status


class OutOfMemoryError(BootcLiveError):
    """Memory, or the file system that is used instead of it, is full."""


class AdmissionError(OutOfMemoryError):
    """An image would not fit into memory; raised before any layer is fetched."""


@contextmanager
def about(subject: str | Callable[[], str]) -> Iterator[None]:
    """Name the subject of an error in the block whose message begins with ``it``, as in "it is damaged".

    A stage that reads one thing does not know what that is called; whoever enters the stage does. A message that names
    its own subject stays as it is. A callable is asked only if there is such an error.
    """
    try:
        yield
    except BootcLiveError as error:
        if error.message.startswith(_IT):
            name = subject if isinstance(subject, str) else subject()
            error.message = f"{name} {error.message.removeprefix(_IT)}"
        raise


@contextmanager
def unexpected_as_source_error(what: str) -> Iterator[None]:
    """Raise every other exception of the block, MemoryError and RecursionError too, as a SourceError about ``what``.

    Servers and archives choose the bytes that libraries parse, so these may raise anything. That must end the use of
    one source, not the boot.
    """
    try:
        yield
    except BootcLiveError:
        raise
    except Exception as error:
        raise SourceError(
            f"{what} cannot be used: unexpected {type(error).__name__}: {redact(str(error))}",
            hint="check the source; if it is valid, report this as a bug in bootc-live",
        ) from error
