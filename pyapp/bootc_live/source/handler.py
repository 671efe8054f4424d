"""Fetch archives with the handlers of dracut's url-lib in the initramfs: ftp, tftp, nfs, torrent."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import RunError, SourceError
from bootc_live.base.installed import FETCH_URL
from bootc_live.base.redact import redact
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import HandlerArchive
from bootc_live.system.run import run

_HINT = "check the URL, the server and the network"


@contextmanager
def fetched_file(spec: HandlerArchive, directory: str | None, limits: RetryLimits) -> Iterator[tuple[str, bool]]:
    """Fetch an archive; yield its path, and whether it is a private copy, which is removed after the block.

    NFS shares stay mounted, and their files are read in place. Raise SourceError.
    """
    if not os.path.exists(FETCH_URL):
        raise SourceError(
            f"cannot fetch {spec.source_text!r}: {spec.scheme}:// requires dracut's url-lib in an initramfs",
            hint="add the dracut modules bootc-live-net and url-lib (for nfs, also nfs) to the initramfs",
        )
    with tempfile.TemporaryDirectory(prefix="bootc-live-fetch.", dir=directory) as where:
        try:
            path = run([FETCH_URL, spec.url, where], hint=_HINT, env=_environment(limits)).strip()
        except RunError as error:
            raise SourceError(f"cannot fetch {spec.source_text!r}: {redact(error.message)}", hint=_HINT) from error
        yield path, os.path.dirname(path) == where


def _environment(limits: RetryLimits) -> dict[str, str]:
    return {
        # The shell in an initramfs has no other locale, and would print a warning.
        "LC_ALL": "C",
        "BOOTC_LIVE_STALL": str(math.ceil(limits.stall)),
        "BOOTC_LIVE_TOTAL": str(math.ceil(limits.total)),
    }
