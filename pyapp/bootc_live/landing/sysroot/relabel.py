"""What systemd is asked to label once the policy of the new root is in force.

A tmpfs forgets the labels it was given before that: what lies on one is named in a file of
/run/systemd/relabel-extra.d, whose trees systemd labels right after it has loaded the policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError

DEFAULT_DIRECTORY = "/run/systemd/relabel-extra.d"
_NAME = "bootc-live.relabel"


@contextmanager
def relabelled(paths: Sequence[str], directory: str = DEFAULT_DIRECTORY) -> Iterator[None]:
    """Leave the request behind, before the block; a failure in the block takes it away. Raises LandingError."""
    if not paths:
        yield
        return
    path = os.path.join(directory, _NAME)
    try:
        try:
            os.makedirs(directory, exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in paths)
        except OSError as error:
            raise LandingError(f"cannot write {path!r}: {error.strerror}", hint="free some space in /run") from error
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
