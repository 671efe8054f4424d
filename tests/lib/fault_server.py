"""An HTTP server on loopback, plain or over TLS, that misbehaves as a plan says and remembers what it was asked.

Where its answers come from is a backend's business: a registry behind it, files, memory. Guests of QEMU reach it at
`tests.lib.registry.GUEST`, like everything on this machine's loopback.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import PROTOCOL_TLS_SERVER, SSLContext

from tests.lib.addressed import Addressed
from tests.lib.fault_connection import Behaviour, Listener
from tests.lib.fault_messages import Backend, Guard, Log, Seen
from tests.lib.faults import Plan, Ranges, Script
from tests.lib.tls import Certificate


@dataclass(frozen=True)
class FaultServer(Addressed):
    """A running server, and what it was asked and sent so far."""

    port: int
    tls: bool
    log: Log

    def asked(self, text: str = "", method: str = "GET") -> list[Seen]:
        """The requests by `method` whose path contains `text`, in the order they came."""
        return self.log.asked(text, method)

    def sent(self, text: str = "") -> int:
        """Bytes of bodies sent for paths that contain `text`."""
        return self.log.sent(text)


@contextmanager
def fault_server(
    backend: Backend,
    plan: Plan | None = None,
    *,
    guard: Guard | None = None,
    ranges: Ranges = Ranges.HONEST,
    tls: Certificate | None = None,
) -> Iterator[FaultServer]:
    """A server on a free port; it and all its connections have ended when the block ends.

    Raises ExceptionGroup if something went wrong in it that was not planned; a failure of the block comes with that.
    """
    context = None
    if tls is not None:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
    log = Log()
    with Listener(Behaviour(backend, plan or Script(), guard, ranges, log), context) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield FaultServer(listener.server_address[1], tls is not None, log)
        finally:
            listener.end()
            thread.join()
            if listener.errors:
                raise ExceptionGroup("the faulty server failed", listener.errors)
