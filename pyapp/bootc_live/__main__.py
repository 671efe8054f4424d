"""The one place that prints errors and chooses exit codes."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.interrupt import ignore_interrupts, interrupt_once, interruption_waits
from bootc_live.base.output import append_to, drop_answers, flush_answers, tell, tell_details
from bootc_live.base.redact import redact
from bootc_live.cli.parser import make_parser

EXIT_FAILED = 1
EXIT_INTERNAL = 70
_MOST_DETAILS = 200
_INTERRUPTED = ("interrupted", "nothing was left behind; run it again")


def main(argv: list[str] | None = None) -> int:
    """Run one verb and give its exit code: 0 done, 1 failed with a message, 2 wrong usage, 70 a defect of ours."""
    arguments = make_parser().parse_args(argv)
    errors_to: str | None = getattr(arguments, "errors_to", None)
    threading.excepthook = _thread_failed
    try:
        # An orderly end undoes mounts and removes files, whoever asked for it.
        interrupt_once()
        verb = importlib.import_module(f"bootc_live.cli.{arguments.verb}")
        code: int = verb.main(arguments)
        flush_answers()
        # Nothing is left to break off.
        ignore_interrupts()
    except BootcLiveError as error:
        told = _INTERRUPTED if interruption_waits() else (error.message, error.hint)
        _report(*told, errors_to)
        return EXIT_FAILED
    except KeyboardInterrupt:
        _report(*_INTERRUPTED, errors_to)
        return EXIT_FAILED
    except BrokenPipeError:
        drop_answers()
        return EXIT_FAILED
    except (OSError, MemoryError) as error:
        _report(*_refused(error), errors_to)
        return EXIT_FAILED
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {redact(str(error))}"
        _report(what, "this is a defect of bootc-live: report the lines below", errors_to)
        _tell_where(error)
        return EXIT_INTERNAL
    return code


def _refused(error: OSError | MemoryError) -> tuple[str, str]:
    """Return message and hint for what the system did not let us have."""
    if isinstance(error, MemoryError):
        return "memory is full", "boot on a machine with more memory, or choose a smaller image or layout"
    where = f"{error.filename!r}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}", "check that it exists, may be used and has space"


def _tell_where(error: BaseException) -> None:
    """Print a traceback by the way that all text goes: its last lines may quote a server."""
    tell_details(redact("".join(traceback.format_exception(error))).splitlines()[-_MOST_DETAILS:])


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None:
        _tell_where(failure.exc_value)


def _report(message: str, hint: str, also: str | None) -> None:
    ignore_interrupts()
    for line in (f"error: {message}", f"what to do: {hint}"):
        tell(line)
        if also is not None:
            try:
                append_to(also, line)
            except OSError as error:
                tell(f"cannot write to {also!r}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
