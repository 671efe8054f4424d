"""Small commands for hooks: names of the program's own tools, in a directory for PATH."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import bootc_live
from bootc_live.base.commands import TOOLS
from bootc_live.landing.guest.step import step
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.mounts import unmounted_after
from bootc_live.system.namespaces import NODEV, NOSUID, mount_at

# The first that can be written to; containers with a read-only root have one of them in RAM.
_PARENTS = ("/run", "/tmp", "/dev/shm", "/dev")  # noqa: S108 - a private directory is made there
_SCRIPT = """\
#!{python}
import sys
sys.path[:0] = {paths!r}
sys.argv[:1] = {words!r}
from bootc_live.__main__ import main
sys.exit(main())
"""


@contextmanager
def hook_commands() -> Iterator[str]:
    """Make the commands for the block, in a directory that only this mount namespace sees; yield its path.

    They need no other program than this interpreter. Raise ConfigError and LandingError.
    """
    parent = next((each for each in _PARENTS if os.path.isdir(each) and os.access(each, os.W_OK)), _PARENTS[0])
    hint = f"give the container a writable {_PARENTS[0]} or {_PARENTS[1]}"
    what = "setup.before: a directory for commands"
    with private_directory(parent, ".bootc-live.", purpose=what, hint=hint) as path, unmounted_after(path):
        with step("setup.before", "mount a directory for commands"):
            # Others may be mounted noexec.
            mount_at("tmpfs", "tmpfs", path, NOSUID | NODEV, "mode=755")
            for name, words in TOOLS.items():
                _write(os.path.join(path, name), words)
        yield path


def _write(path: str, words: tuple[str, ...]) -> None:
    home = os.path.dirname(os.path.dirname(os.path.abspath(bootc_live.__file__)))
    text = _SCRIPT.format(python=sys.executable, paths=[home], words=["bootc-live", *words])
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), 0o755)
        file.write(text)
