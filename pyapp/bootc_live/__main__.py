"""The one place that prints errors and chooses exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

from bootc_live.base.errors import BootcLiveError
from bootc_live.cli.parser import make_parser

EXIT_FAILED = 1
EXIT_INTERNAL = 70


def main(argv: list[str] | None = None) -> int:
    """Run one verb and give its exit code: 0 done, 1 failed with a message, 2 wrong usage, 70 a defect of ours."""
    arguments = make_parser().parse_args(argv)
    # An orderly end undoes mounts and removes files, whoever asked for it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    verb = importlib.import_module(f"bootc_live.cli.{arguments.verb}")
    try:
        code: int = verb.main(arguments)
        sys.stdout.flush()
    except BootcLiveError as error:
        _report(error.message, error.hint, getattr(arguments, "errors_to", None))
        return EXIT_FAILED
    except KeyboardInterrupt:
        _report("interrupted", "nothing was left behind; run it again")
        return EXIT_FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        _report(f"unexpected {type(error).__name__}: {error}", "this is a defect of bootc-live: report the lines below")
        sys.excepthook(type(error), error, error.__traceback__)
        return EXIT_INTERNAL
    return code


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _report(message: str, hint: str, also: str | None = None) -> None:
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
