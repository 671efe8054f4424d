"""Archives that dracut's url-lib fetches: ftp, tftp, nfs, torrent, by whatever handlers the initramfs has."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import RunError, SourceError
from bootc_live.base.redact import redact
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import HandlerArchive
from bootc_live.system.run import run

_FETCH = "/usr/lib/bootc-live/fetch-url"
_HINT = "check the URL, the server and the network"


@contextmanager
def fetched_file(spec: HandlerArchive, directory: str | None, limits: RetryLimits) -> Iterator[tuple[str, bool]]:
    """Fetch an archive and give its path, and whether it is ours alone; it is gone after the block if so.

    NFS shares stay mounted, and their files are read in place. Raise SourceError.
    """
    if not os.path.exists(_FETCH):
        raise SourceError(
            f"cannot fetch {spec.typed!r}: {spec.scheme}:// needs dracut's url-lib, which only an initramfs has",
            hint="in an initramfs, add the dracut modules bootc-live-net and url-lib (for nfs, also nfs)",
        )
    with tempfile.TemporaryDirectory(prefix="bootc-live-fetch.", dir=directory) as where:
        try:
            path = run([_FETCH, spec.url, where], hint=_HINT, env=_patience(limits)).strip()
        except RunError as error:
            raise SourceError(f"cannot fetch {spec.typed!r}: {redact(error.message)}", hint=_HINT) from error
        yield path, os.path.dirname(path) == where


def _patience(limits: RetryLimits) -> dict[str, str]:
    return {
        # The shell of an initramfs knows no other locale, and would say so.
        "LC_ALL": "C",
        "BOOTC_LIVE_STALL": str(math.ceil(limits.stall)),
        "BOOTC_LIVE_TOTAL": str(math.ceil(limits.total)),
    }
