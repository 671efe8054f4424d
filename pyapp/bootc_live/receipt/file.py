"""The file of a receipt: ``/run/bootc-live/receipt.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError
from bootc_live.base.output import format_json
from bootc_live.system.cleanup.directories import make_in

DEFAULT_PATH = "/run/bootc-live/receipt.json"


@contextmanager
def written_receipt(receipt: dict[str, object], path: str) -> Iterator[None]:
    """Write a receipt atomically before the block; if the block fails, the one before is there again.

    Raise LandingError.
    """
    # A unique name: another run may write the same receipt now.
    part = f"{path}.{os.urandom(8).hex()}.part"
    before = _content(path)
    try:
        try:
            with make_in(os.path.dirname(path) or ".", lambda: open(part, "x", encoding="utf-8")) as file:
                file.write(f"{format_json(receipt)}\n")
            os.replace(part, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        raise LandingError(
            f"cannot write the receipt {path!r}: {error.strerror}", hint="correct --receipt, or free space"
        ) from error
    try:
        yield
    except BaseException:
        # Another run may have removed its receipt of the same name.
        with suppress(FileNotFoundError):
            os.unlink(path)
        if before is not None:
            with suppress(OSError):
                with open(part, "xb") as file:
                    file.write(before)
                os.replace(part, path)
        raise


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def read_receipt(path: str) -> dict[str, object]:
    """Return a receipt; raise LandingError if there is none or it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError as error:
        raise LandingError(
            f"there is no receipt at {path!r}", hint="this system was not booted by bootc-live"
        ) from error
    except (OSError, ValueError) as error:
        raise LandingError(f"the receipt {path!r} cannot be read: {error}", hint="boot again") from error
    if not isinstance(data, dict):
        raise LandingError(f"the receipt {path!r} is not a JSON object", hint="boot again")
    return data
