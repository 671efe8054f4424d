"""What several verbs look at before they begin."""

from __future__ import annotations

import os

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.source.interface import Source


def require_root(verb: str) -> None:
    """Raise RootfsError for anybody but root, before anything is fetched."""
    if os.geteuid() != 0:
        raise RootfsError(f"{verb} needs root: it mounts the image and keeps owners", hint="run it as root")


def warn_if_insecure(source: Source, recorder: Recorder) -> None:
    """Tell of a source that the user chose to talk to without protection."""
    if source.insecure:
        recorder.warn(f"the identity of the registry of {source.typed!r} is NOT checked, as asked for")
