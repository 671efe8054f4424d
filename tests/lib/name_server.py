"""A name server that knows one name. It has a loopback address of its own, because its port cannot be chosen."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import randbelow
from typing import Final

_PORT: Final = 53
_ATTEMPTS: Final = 20
_HEADER: Final = struct.Struct("!6H")
_ADDRESS_RECORD: Final = 1
_NO_SUCH_NAME: Final = 3


@contextmanager
def name_server(name: str, address: str) -> Iterator[str]:
    """Answer that `name` has the IPv4 `address`, and nothing else exists; yields the server's own address."""
    with _bound() as server:
        answering = threading.Thread(target=_answer_all, args=(server, name, address))
        answering.start()
        try:
            yield server.getsockname()[0]
        finally:
            # An empty datagram is the end.
            server.sendto(b"", server.getsockname())
            answering.join()


def _bound() -> socket.socket:
    for _ in range(_ATTEMPTS):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            server.bind((f"127.{1 + randbelow(200)}.{randbelow(256)}.{2 + randbelow(250)}", _PORT))
        except OSError:
            server.close()
        else:
            return server
    raise OSError(f"port {_PORT} is taken on each of {_ATTEMPTS} loopback addresses")


def _answer_all(server: socket.socket, name: str, address: str) -> None:
    while True:
        query, client = server.recvfrom(4096)
        if not query:
            return
        server.sendto(_answer(query, name, address), client)


def _answer(query: bytes, name: str, address: str) -> bytes:
    """Return the answer to a query of one question (RFC 1035, section 4)."""
    number, *_ = _HEADER.unpack_from(query)
    end = query.index(b"\0", _HEADER.size) + 1
    asked, (kind,) = query[_HEADER.size : end], struct.unpack_from("!H", query, end)
    known = asked.lower() == b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    found = known and kind == _ADDRESS_RECORD
    flags = 0x8580 | (0 if known else _NO_SUCH_NAME)
    answer = _HEADER.pack(number, flags, 1, found, 0, 0) + query[_HEADER.size : end + 4]
    if found:
        # The name is that of the question, 12 bytes from the start.
        answer += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, 4) + socket.inet_aton(address)
    return answer
