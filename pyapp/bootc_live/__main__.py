"""The one place that prints errors and chooses exit codes."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
import traceback

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.output import append_to, drop_answers, flush_answers, tell, tell_details
from bootc_live.base.redact import redact
from bootc_live.cli.parser import make_parser
from bootc_live.system.cleanup.guard import ENDING, EndedError, guarded, own_mounts

EXIT_FAILED = 1
EXIT_INTERNAL = 70
_MOST_DETAILS = 200
_INTERRUPTED = ("interrupted", "nothing was left behind; run it again")


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code: 0 done, 1 failed with a message, 2 wrong usage, 70 a defect of ours."""
    arguments = make_parser().parse_args(argv)
    errors_to: str | None = getattr(arguments, "errors_to", None)
    try:
        return guarded(lambda: _work(arguments, errors_to), last=argv is None)
    except EndedError as ended:
        _report(*(_INTERRUPTED if ended.number in ENDING else _killed(ended.number)), errors_to)
        return EXIT_FAILED


def _work(arguments: argparse.Namespace, errors_to: str | None) -> int:
    threading.excepthook = _thread_failed
    try:
        own_mounts()
        verb = importlib.import_module(f"bootc_live.cli.{arguments.verb}")
        code: int = verb.main(arguments)
        flush_answers()
    except BootcLiveError as error:
        _report(error.message, error.hint, errors_to)
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


def _killed(number: int) -> tuple[str, str]:
    return (
        f"the program was ended by signal {number} ({signal.Signals(number).name}); nothing was left behind",
        "look at the kernel log (dmesg): it may be that memory was full",
    )


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
    for line in (f"error: {message}", f"what to do: {hint}"):
        tell(line)
        if also is not None:
            try:
                append_to(also, line)
            except OSError as error:
                tell(f"cannot write to {also!r}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
