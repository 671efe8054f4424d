"""Answers that are no proper HTTP, or whose numbers are none: each ends its source at once, and the next is tried."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.config.model import RetryLimits
from bootc_live.source.retry import RetryPolicy
from tests.lib.acquiring import Attempted, contents
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TAR = layer(file("a", b"content"))
ONCE = RetryPolicy(RetryLimits(tries=1, stall=5.0, total=20.0), first_delay=0.001, longest_delay=0.002)
NUMBERS = ["", "²", "-1", "1_0", "1e3", str(2**63), str(2**70), "9" * 5000]


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """What a server sends; characters are bytes."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("utf-8") + body


ANSWERS = {
    **{f"length {text[:6]}": answer("200 OK", f"Content-Length: {text}", body=b"xx") for text in NUMBERS},
    **{
        f"total {text[:6]}": answer("206 P", f"Content-Range: bytes 0-65535/{text}", "Content-Length: 2", body=b"xx")
        for text in [*NUMBERS, "*", "0", "1"]
    },
    **{
        f"range {text[:6]}": answer("206 P", f"Content-Range: {text}", "Content-Length: 2", body=b"xx")
        for text in [
            "",
            "bytes",
            "bytes 0-/",
            "bytes 0-1/2/3",
            "bytes ²-1/2",
            "bytes 1-0/2",
            "bytes 0-" + "9" * 5000 + "/9",
        ]
    },
    **{
        f"retry {text[:6]}": answer("503 Busy", f"Retry-After: {text}", "Content-Length: 0")
        for text in [
            *NUMBERS,
            "Mon, 01 Jan 99999999999999999999 00:00:00 +0000",
            "Mon, 01 Jan 2024 00:00:00 +" + "9" * 11,
        ]
    },
    **{
        f"chunk {text[:6]}": answer("200 OK", "Transfer-Encoding: chunked", body=f"{text}\r\nxx\r\n0\r\n\r\n".encode())
        for text in NUMBERS
    },
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
    "a status of seven digits": answer("9999999 x"),
    "a status that is no number": answer("²00 x"),
    "a status line of 1 MiB": answer("200 " + "x" * 2**20),
    "a header of 1 MiB": answer("200 OK", "X: " + "x" * 2**20),
    "headers without end": answer("200 OK", *["X: x"] * 50_000),
    "a header without a colon": answer("200 OK", "hello", "Content-Length: 0"),
    "folded headers": answer("200 OK", "X: a", *[" b"] * 1000, "Content-Length: 0"),
}


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    """A server that answers every request with these bytes."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    if connection.recv(65536):
                        connection.sendall(content)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("kind", ["http://{}/a.oci", "docker://{}/os:1"])
@pytest.mark.parametrize("content", ANSWERS.values(), ids=ANSWERS)
def test_the_next_source_is_used(content: bytes, kind: str, tmp_path: Path) -> None:
    good = write_archive(tmp_path / "good.oci", Image([Layer(TAR)], architecture=HERE))
    attempted = Attempted({"policy": ONCE, "unsecure": True})
    began = time.process_time()
    with serving(content) as place:
        made = attempted.acquire(tmp_path / "data", kind.format(place), str(good))
    assert contents(made.image) == [TAR]
    assert made.attempts[0].error
    assert "unexpected" not in made.attempts[0].error
    assert time.process_time() - began < 60
