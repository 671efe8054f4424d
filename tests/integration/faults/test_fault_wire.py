"""The faulty server does on the wire what it is told to: seen by clients that are not ours."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing

import pytest

from tests.lib.dead_servers import closed_port, full_server, mute_server
from tests.lib.fault_files import Files
from tests.lib.fault_server import FaultServer, fault_server
from tests.lib.faults import EVERYTHING, End, Fault, Ranges, Rule, Script
from tests.lib.tls import Certificate, make_server

CONTENT = bytes(os.urandom(200_000))
PLACE = "/file"
# Seconds: for what never comes, and for what does.
QUIET, PATIENCE = 0.3, 120
Dead = Callable[[], AbstractContextManager[int]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(CONTENT)
    return Files({PLACE: path})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_server(tmp_path_factory.mktemp("keys"), None)


def script(fault: Fault, times: int | None = None) -> Script:
    return Script((Rule(EVERYTHING, fault, times=times),))


class Client:
    """One connection without any patience or mercy, and what it said."""

    def __init__(self, server: FaultServer, *, tls: bool = False) -> None:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        context = ssl._create_unverified_context()
        self.socket = context.wrap_socket(raw, suppress_ragged_eofs=False) if tls else raw

    def ask(self, start: int | None = None) -> None:
        """Sends a request for the file."""
        ranged = "" if start is None else f"Range: bytes={start}-\r\n"
        self.socket.sendall(f"GET {PLACE} HTTP/1.1\r\nHost: test\r\n{ranged}\r\n".encode())

    def answer(self) -> bytes:
        """All that comes until the connection ends; raises what the socket raises."""
        found = b""
        while data := self.socket.recv(65536):
            found += data
        return found


@pytest.fixture
def asked(request: pytest.FixtureRequest, files: Files, certificate: Certificate) -> Iterator[Client]:
    """A client that asked a server with one fault for the file; with TLS if the parameter says so."""
    fault, tls = request.param
    with fault_server(files, script(fault), tls=certificate if tls else None) as server:
        client = Client(server, tls=tls)
        with closing(client.socket):
            client.ask()
            yield client


def one(server: FaultServer, start: int | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (their names in lower case) and body of an answer, as the standard library reads it."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("GET", PLACE, headers={} if start is None else {"Range": f"bytes={start}-"})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


@pytest.mark.parametrize("tls", [False, True])
def test_reset_comes_after_the_bytes(tls: bool, files: Files, certificate: Certificate) -> None:
    reset = script(Fault(after=50_000, end=End.RESET))
    with fault_server(files, reset, tls=certificate if tls else None) as server:
        client = Client(server, tls=tls)
        with closing(client.socket):
            client.ask()
            come: list[bytes] = []
            with pytest.raises(ConnectionResetError):
                come.extend(iter(lambda: client.socket.recv(4096), b""))
        assert b"".join(come).partition(b"\r\n\r\n")[2] == CONTENT[:50_000]


@pytest.mark.parametrize("asked", [(Fault(after=1000, end=End.CUT), True)], indirect=True)
def test_tls_cut(asked: Client) -> None:
    with pytest.raises(ssl.SSLEOFError):
        asked.answer()


@pytest.mark.parametrize("asked", [(Fault(after=1000, end=End.CLOSE), True)], indirect=True)
def test_tls_goodbye(asked: Client) -> None:
    assert asked.answer().endswith(CONTENT[:1000])


SILENT = (Fault(silent=True), Fault(after=0, end=End.SILENCE), Fault(after=9, end=End.SILENCE), Fault(end=End.SILENCE))


@pytest.mark.parametrize("asked", [(fault, False) for fault in SILENT], indirect=True)
def test_silence(asked: Client) -> None:
    asked.socket.settimeout(QUIET)
    with pytest.raises(TimeoutError):
        asked.answer()
    # What is asked now is taken and not answered.
    asked.ask()
    with pytest.raises(TimeoutError):
        asked.answer()


@pytest.mark.parametrize(
    ("fault", "length", "body"),
    [
        (Fault(), 200_000, CONTENT),
        (Fault(short=10), 199_990, CONTENT[:-10]),
        (Fault(short=10**6), 0, b""),
        (Fault(extra=10), 200_010, CONTENT + bytes(10)),
        (Fault(flip=150_000), 200_000, CONTENT[:150_000] + bytes([CONTENT[150_000] ^ 255]) + CONTENT[150_001:]),
        (Fault(body=b"other"), 5, b"other"),
        (Fault(length=-10), 199_990, CONTENT[:-10]),
    ],
    ids=["good", "short", "empty", "long", "wrong", "replaced", "length"],
)
def test_bodies(fault: Fault, length: int, body: bytes, files: Files) -> None:
    with fault_server(files, script(fault)) as server:
        status, headers, come = one(server)
    assert (status, int(headers["content-length"])) == (200, length)
    assert hashlib.sha256(come).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("ranges", "status", "said", "body"),
    [
        (Ranges.HONEST, 206, "bytes 1000-199999/200000", CONTENT[1000:]),
        (Ranges.NONE, 200, "", CONTENT),
        (Ranges.WRONG_HEADER, 206, "bytes 0-199999/200000", CONTENT[1000:]),
        (Ranges.WRONG_BYTES, 206, "bytes 1000-199999/200000", CONTENT[:-1000]),
    ],
    ids=lambda value: value.name if isinstance(value, Ranges) else "",
)
def test_ranges(ranges: Ranges, status: int, said: str, body: bytes, files: Files) -> None:
    with fault_server(files, ranges=ranges) as server:
        got, headers, come = one(server, 1000)
        assert server.asked()[0].start == 1000
    assert (got, headers.get("content-range", "")) == (status, said)
    assert come == body


def test_rules_count_by_path_or_in_all() -> None:
    bad, worse = Fault(status=500), Fault(status=503)
    by_path = Script((Rule("/a", bad, times=2, spared=1), Rule("/a", worse)))
    # The second rule has its turn while the first one spares.
    assert [by_path.fault("/a").status for _ in range(4)] == [503, 500, 500, None]
    assert by_path.fault("/a/b").status == 503
    in_all = Script((Rule("/", bad, times=1, each=False),))
    assert [in_all.fault(path).status for path in ("/a", "/b")] == [500, None]


def test_own_mistakes_show() -> None:
    class Backend:
        def answer(self, request: object) -> object:
            raise ValueError(request)

    with (
        pytest.raises(ExceptionGroup),
        fault_server(Backend()) as server,  # type: ignore[arg-type]
        pytest.raises(http.client.RemoteDisconnected),
    ):
        one(server)


def greet(port: int, patience: float = PATIENCE) -> bytes:
    with socket.socket() as client:
        client.settimeout(patience)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return client.recv(1)


@pytest.mark.parametrize(
    ("dead", "error"),
    [(closed_port, ConnectionRefusedError), (full_server, TimeoutError), (mute_server, TimeoutError)],
    ids=["closed", "full", "mute"],
)
def test_dead_servers(dead: Dead, error: type[OSError]) -> None:
    with dead() as port, pytest.raises(error):
        greet(port, QUIET)
