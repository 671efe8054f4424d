"""What several verbs look at before they begin."""

from __future__ import annotations

import os

from bootc_live.base.errors import RootfsError


def require_root(verb: str) -> None:
    """Raise RootfsError for anybody but root, before anything is fetched."""
    if os.geteuid() != 0:
        raise RootfsError(f"{verb} needs root: it mounts the image and keeps owners", hint="run it as root")
