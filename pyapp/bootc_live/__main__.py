"""The one place that prints errors and chooses exit codes."""

from __future__ import annotations

import importlib
import os
import sys

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.interrupt import ignore_interrupts, interrupt_once, interruption_waits
from bootc_live.cli.parser import make_parser

EXIT_FAILED = 1
EXIT_INTERNAL = 70
_INTERRUPTED = ("interrupted", "nothing was left behind; run it again")


def main(argv: list[str] | None = None) -> int:
    """Run one verb and give its exit code: 0 done, 1 failed with a message, 2 wrong usage, 70 a defect of ours."""
    arguments = make_parser().parse_args(argv)
    errors_to: str | None = getattr(arguments, "errors_to", None)
    try:
        # An orderly end undoes mounts and removes files, whoever asked for it.
        interrupt_once()
        verb = importlib.import_module(f"bootc_live.cli.{arguments.verb}")
        code: int = verb.main(arguments)
        sys.stdout.flush()
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        where = f"{error.filename!r}: " if error.filename is not None else ""
        _report(f"{where}{error.strerror or error}", "check that it exists, may be used and has space", errors_to)
        return EXIT_FAILED
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {error}"
        _report(what, "this is a defect of bootc-live: report the lines below", errors_to)
        sys.excepthook(type(error), error, error.__traceback__)
        return EXIT_INTERNAL
    return code


def _report(message: str, hint: str, also: str | None) -> None:
    ignore_interrupts()
    lines = (f"bootc-live: error: {message}", f"bootc-live: what to do: {hint}")
    for line in lines:
        print(line, file=sys.stderr, flush=True)
        if also is not None:
            _append(also, line)


def _append(path: str, line: str) -> None:
    # The level makes the kernel show it even with "quiet"; one write is one record of its log.
    level = "<3>" if path == "/dev/kmsg" else ""
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(f"{level}{line}\n".encode(errors="backslashreplace"))
    except OSError as error:
        print(f"bootc-live: cannot write to {path!r}: {error.strerror}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
