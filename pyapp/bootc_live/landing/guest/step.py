"""Name the step that failed, and the key that asks for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import BootcLiveError, LandingError

_HINT = "look at that key of the guest's file; docs/guest.md says what the container has to allow"


@contextmanager
def step(key: str, doing: str, hint: str = _HINT) -> Iterator[None]:
    """Raise an OSError of the block as a LandingError: ``doing`` is such as "mount /proc". Other errors get the key."""
    try:
        yield
    except BootcLiveError as error:
        if not error.message.startswith(key):
            error.message = f"{key}: {error.message}"
        raise
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, str(error.errno))
        name = error.filename if isinstance(error.filename, str) else ""
        where = f" ({name!r})" if name and repr(name) not in doing else ""
        raise LandingError(f"{key}: cannot {doing}{where}: {error.strerror} ({code})", hint=hint) from error
