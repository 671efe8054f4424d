"""A scripted registry that misbehaves as it is told, on loopback; standard library only."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bootc_live.source.descriptor import Descriptor

NAME = "os"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_RANGE = re.compile(r"bytes=(\d+)-$")


@dataclass(frozen=True)
class Fault:
    """What to do with one request for a blob instead of answering it well.

    `after` bytes of the body are sent, then the connection ends; `status` answers with that status and `headers`.
    """

    after: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FaultyRegistry:
    """Blobs by digest, faults still to come, and what was asked and sent so far."""

    ranges: bool = True
    lie_about_range: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    tokens: int = 0
    port: int = 0

    def add(self, content: bytes) -> Descriptor:
        """Keeps a blob and gives its descriptor."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return Descriptor("application/octet-stream", digest, len(content))

    @property
    def login(self) -> Fault:
        """Asks for a bearer token, as if there had been none or it had run out."""
        realm = f'Bearer realm="http://127.0.0.1:{self.port}/token",service="registry"'
        return Fault(status=401, headers={"Www-Authenticate": realm})

    @property
    def reference(self) -> str:
        """What to open."""
        return f"127.0.0.1:{self.port}/{NAME}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FaultyRegistry

    def log_message(self, *_: object) -> None:
        """Says nothing: what was asked is in `asked`."""

    def do_GET(self) -> None:
        """Answers a request of the distribution API."""
        kind, _, target = self.path.removeprefix(f"/v2/{NAME}/").partition("/")
        if self.path.startswith("/token"):
            self.state.tokens += 1
            self._answer(200, json.dumps({"token": f"token-{self.state.tokens}"}).encode())
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif kind == "manifests":
            self._answer(200, json.dumps({"schemaVersion": 2}).encode(), {"Content-Type": OCI_MANIFEST})
        elif target in self.state.blobs:
            self._blob(self.state.blobs[target])
        else:
            self._answer(404, b"")

    def _blob(self, content: bytes) -> None:
        asked = self.headers.get("Range", "")
        self.state.asked.append(asked)
        fault = self.state.faults.popleft() if self.state.faults else Fault()
        if fault.status is not None:
            self._answer(fault.status, b"", fault.headers)
            return
        match = _RANGE.match(asked) if self.state.ranges else None
        start = int(match[1]) if match else 0
        headers = {}
        if match:
            begins = 0 if self.state.lie_about_range else start
            headers["Content-Range"] = f"bytes {begins}-{len(content) - 1}/{len(content)}"
        self._answer(206 if match else 200, content[start:], headers, fault.after)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, after: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        part = body if after is None else body[:after]
        self.wfile.write(part)
        self.state.sent += len(part)
        if after is not None:
            self.close_connection = True


@contextmanager
def faulty_registry(**settings: Any) -> Iterator[FaultyRegistry]:
    """A running registry; it has ended when the block ends."""
    state = FaultyRegistry(**settings)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state})) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
