"""A registry of a few blobs in memory whose faults come one after the other, request by request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bootc_live.formats.oci.descriptor import Descriptor
from tests.lib.fault_messages import Answer, Log, Request, whole
from tests.lib.fault_server import fault_server
from tests.lib.faults import BLOBS, GOOD, Fault, Ranges
from tests.lib.registry import LOOPBACK

__all__ = ["Fault", "FaultyRegistry", "faulty_registry"]

NAME: Final = "os"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass
class FaultyRegistry:
    """Blobs by digest, faults still to come (each for one request for a blob), and what was asked and sent so far."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    tokens: int = 0
    port: int = 0
    log: Log = field(default_factory=Log)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, content: bytes) -> Descriptor:
        """Keeps a blob and gives its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return Descriptor("application/octet-stream", digest, len(content))

    @property
    def asked(self) -> list[str]:
        """The Range headers of all requests for blobs; empty texts for those without."""
        return [seen.range for seen in self.log.asked(BLOBS)]

    @property
    def sent(self) -> int:
        """Bytes of all bodies."""
        return self.log.sent()

    @property
    def login(self) -> Fault:
        """Asks for a bearer token, as if there had been none or it had run out."""
        realm = f'Bearer realm="http://{LOOPBACK}:{self.port}/token",service="registry"'
        return Fault(status=401, headers={"Www-Authenticate": realm})

    @property
    def reference(self) -> str:
        """What to open."""
        return f"{LOOPBACK}:{self.port}/{NAME}"

    def fault(self, path: str) -> Fault:
        """See `Plan`."""
        with self._lock:
            return self.faults.popleft() if BLOBS in path and self.faults else GOOD

    @contextmanager
    def answer(self, request: Request) -> Iterator[Answer]:
        """See `Backend`: as the distribution API has it."""
        kind, _, target = request.path.removeprefix(f"/v2/{NAME}/").partition("/")
        if request.path.startswith("/token"):
            with self._lock:
                self.tokens += 1
                yield whole(200, json.dumps({"token": f"token-{self.tokens}"}).encode())
        elif request.path == "/v2/":
            yield whole(200, b"{}")
        elif kind == "manifests":
            yield whole(200, json.dumps({"schemaVersion": 2}).encode(), {"Content-Type": OCI_MANIFEST})
        elif target in self.blobs:
            yield _blob(self.blobs[target], request.header("Range"))
        else:
            yield Answer(404)


def _blob(content: bytes, asked: str) -> Answer:
    match = _RANGE.match(asked)
    if match is None:
        return whole(200, content)
    start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else len(content), len(content))
    headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    return Answer(206, (content[start:end],), end - start, headers, start)


@contextmanager
def faulty_registry(*, ranges: bool = True, lie_about_range: bool = False) -> Iterator[FaultyRegistry]:
    """A running registry; it has ended when the block ends."""
    served = FaultyRegistry()
    honest = Ranges.HONEST if ranges else Ranges.NONE
    with fault_server(served, served, ranges=Ranges.WRONG_HEADER if lie_about_range else honest) as server:
        served.port, served.log = server.port, server.log
        yield served
