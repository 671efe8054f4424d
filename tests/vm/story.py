"""What a person needs to see of a guest whose test failed."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from typing import Final

import pytest
from testinfra.host import Host

from vmkit.base import BaseGuest

LINES: Final = 60


def story(item: pytest.Item) -> list[tuple[str, str]]:
    """Return titles and texts: the console's end, the unit's journal and the receipt, and how to run the test alone.

    The guest is the one of the fixture that the test uses. A test that starts a guest by itself has let it go by now:
    its error has the console's end.
    """
    found = [("to run this alone", f"tests/run vm {shlex.quote(item.nodeid)}")]
    for value in getattr(item, "funcargs", {}).values():
        guest, host = getattr(value, "guest", None), getattr(value, "host", None)
        if isinstance(guest, BaseGuest):
            found.append((f"last {LINES} lines of the console", "\n".join(guest.lines()[-LINES:])))
            ready = getattr(value, "ready", None)
            found.append(("boot receipt", json.dumps(ready.receipt, indent=1) if ready else "there is none"))
            if isinstance(host, Host):
                found.append(("journal of bootc-live.service", _journal(host)))
    return found


def _journal(host: Host) -> str:
    with suppress(RuntimeError):
        return str(host.run("journalctl --boot --unit=bootc-live.service --output=short-monotonic --no-pager").stdout)
    return "the guest cannot be reached"
