"""Run a verb, print its error and choose the exit code."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from bootc_live.base.advice import advise_at_desk
from bootc_live.base.commands import words_of
from bootc_live.base.errors import BootcLiveError, ConfigError
from bootc_live.base.output import append_message, discard_results, flush_results, print_details, print_message
from bootc_live.base.redact import redact
from bootc_live.base.signals import signal_name
from bootc_live.system.cleanup.guard import STOPPING_SIGNALS, EndedError, run_in_child, unshare_mounts
from bootc_live.system.memory import share_heap

EXIT_FAILED = 1
EXIT_INTERNAL = 70
_MAX_TRACEBACK_LINES = 200
_ERRORS_TO = "--errors-to"
_INTERRUPTED = ("interrupted", "nothing was left behind; run it again")


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code: 0 success, 1 error, 2 wrong usage, 70 bug in bootc-live.

    If a program that it was told to run fails, the code is the one of that.
    """
    words = [*words_of(sys.argv[0]), *sys.argv[1:]] if argv is None else argv
    errors_to = _errors_to(words)

    def start() -> int:
        return run_in_child(lambda: _work(words, errors_to), last=argv is None)

    try:
        return _reported(start, errors_to)
    except EndedError as ended:
        _report(*(_INTERRUPTED if ended.number in STOPPING_SIGNALS else _killed(ended.number)), errors_to)
        return EXIT_FAILED


def _errors_to(words: list[str]) -> str | None:
    """Return where ``boot`` writes its errors, too. No parser: this process keeps what it loads while it waits."""
    names = [word.partition("=")[0] for word in words]
    if words[:1] != ["boot"] or _ERRORS_TO not in names:
        return None
    at = names.index(_ERRORS_TO)
    return words[at].partition("=")[2] or next(iter(words[at + 1 :]), None)


def _work(words: list[str], errors_to: str | None) -> int:
    threading.excepthook = _thread_failed
    # Threads that receive or hash need the interpreter for moments only; one that computes must not keep it for 5 ms.
    sys.setswitchinterval(0.001)
    # Nearly all objects are needed to the end: collecting garbage would only cost time.
    gc.disable()
    share_heap()

    def verb() -> int:
        # A late import, like that of the verb: the parent needs neither.
        from bootc_live.cli.options.parser import parse_arguments

        try:
            arguments = parse_arguments(words)
        except SystemExit as ended:
            # The usage was wrong, or asked for.
            code = int(ended.code or 0)
        else:
            unshare_mounts()
            try:
                with nullcontext() if arguments.verb == "boot" else advise_at_desk():
                    code = _verb(arguments.verb).main(arguments)
            except BootcLiveError:
                # Some verbs print a result, and fail because of it.
                with suppress(OSError):
                    flush_results()
                raise
        flush_results()
        return code

    return _reported(verb, errors_to)


def _reported(work: Callable[[], int], errors_to: str | None) -> int:
    """Return the exit code of some work; print its error."""
    try:
        return work()
    except BootcLiveError as error:
        _report(error.message, error.hint, errors_to)
        return error.status
    except BrokenPipeError:
        discard_results()
        return EXIT_FAILED
    except (OSError, MemoryError) as error:
        _report(*_os_error(error), errors_to)
        return EXIT_FAILED
    except EndedError:
        raise
    except Exception as error:
        message = f"unexpected {type(error).__name__}: {redact(str(error))}"
        _report(message, "this is a bug in bootc-live: report the lines below", errors_to)
        _print_traceback(error)
        return EXIT_INTERNAL


def _verb(name: str) -> Any:
    try:
        return importlib.import_module(f"bootc_live.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"bootc_live.cli.{name}":
            raise
        raise ConfigError(
            f"an initramfs has no {name.replace('.', ' ')!r}",
            hint="use the program as it is built, build/bootc-live.pyz",
        ) from error


def _killed(number: int) -> tuple[str, str]:
    return (
        f"the program was killed by signal {number} ({signal_name(number)}); nothing was left behind",
        "look at the kernel log (dmesg): memory may have been full",
    )


def _os_error(error: OSError | MemoryError) -> tuple[str, str]:
    """Return message and hint for an error of the operating system."""
    if isinstance(error, MemoryError):
        return "memory is full", "use a machine with more memory, a smaller image or another layout"
    where = f"{error.filename!r}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}", "check that it exists, its permissions and free space"


def _print_traceback(error: BaseException) -> None:
    """Print a redacted traceback: it may quote a server."""
    print_details(redact("".join(traceback.format_exception(error))).splitlines()[-_MAX_TRACEBACK_LINES:])


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_value is not None:
        _print_traceback(failure.exc_value)


def _report(message: str, hint: str, also: str | None) -> None:
    for line in (f"error: {message}", f"what to do: {hint}"):
        print_message(line)
        if also is not None:
            try:
                append_message(also, line)
            except OSError as error:
                print_message(f"cannot write to {also!r}: {error.strerror}")


if __name__ == "__main__":
    sys.exit(main())
