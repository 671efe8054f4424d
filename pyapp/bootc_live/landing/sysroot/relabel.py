"""Ask systemd to label files after it has loaded the SELinux policy of the new root.

A tmpfs loses labels that were set before that. systemd labels the trees that are listed in the files of
/run/systemd/relabel-extra.d right after it has loaded the policy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError
from bootc_live.system.files import no_space

DEFAULT_DIRECTORY = "/run/systemd/relabel-extra.d"
_NAME = "bootc-live.relabel"


def relabel_files(paths: Sequence[str]) -> dict[str, str]:
    """Return the request as a file, by its path; none without paths."""
    return {os.path.join(DEFAULT_DIRECTORY, _NAME): "".join(f"{name}\n" for name in paths)} if paths else {}


@contextmanager
def relabelled(paths: Sequence[str], directory: str = DEFAULT_DIRECTORY) -> Iterator[None]:
    """Write the request before the block, and remove it if the block fails; raise LandingError."""
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
            hint = "free space in /run" if no_space(error) else "look at the kernel log (dmesg)"
            raise LandingError(f"cannot write {path!r}: {error.strerror}", hint=hint) from error
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
