"""Ask the kernel by netlink(7), without a program; and the tables of nf_tables."""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import TracebackType
from typing import Self

ROUTE, NETFILTER = 0, 12
DUMP, REPLACE, CREATE = 0x300, 0x100, 0x400
_REQUEST, _ACK = 1, 4
_ERROR, _DONE = 2, 3
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_LARGEST = 1 << 18
# As linux/netfilter/nfnetlink.h and nf_tables.h have them; and the errors of a kernel without nf_tables.
_NF_TABLES, _BATCH_BEGIN, _BATCH_END = 10, 16, 17
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE = (_NF_TABLES << 8 | number for number in range(3))
_ABSENT = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)


class Netlink:
    """A connection to one part of the kernel, ``ROUTE`` or ``NETFILTER``; a context manager."""

    def __init__(self, part: int) -> None:
        """Connect; raise OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, part)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, kind: int, content: bytes, flags: int = 0) -> list[bytes]:
        """Send a request, and return the contents of the answers; raise OSError."""
        self._socket.send(self.message(kind, content, flags | (0 if flags == DUMP else _ACK)))
        return self._answers()

    def tell(self, *messages: bytes) -> None:
        """Send messages as one, of which one is acknowledged; raise OSError."""
        self._socket.send(b"".join(messages))
        self._answers()

    def message(self, kind: int, content: bytes, flags: int = 0) -> bytes:
        """Return a message."""
        self._number += 1
        return _HEADER.pack(_HEADER.size + len(content), kind, _REQUEST | flags, self._number, 0) + content

    def _answers(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            data = self._socket.recv(_LARGEST)
            while data:
                length, kind, _, _, _ = _HEADER.unpack_from(data)
                content, data = data[_HEADER.size : length], data[length + 3 & ~3 :]
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found
                found.append(content)


def packed(name: int, value: bytes) -> bytes:
    """Return an attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, name) + value + bytes(-length % 4)


def unpacked(data: bytes) -> dict[int, bytes]:
    """Return the values of attributes by their names."""
    found = dict[int, bytes]()
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, name = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[name & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def has_nf_tables() -> bool:
    """Return whether the network has tables of nf_tables; raise OSError if nobody may ask."""
    try:
        with Netlink(NETFILTER) as kernel:
            return bool(kernel.ask(_GET_TABLE, bytes(4), DUMP))
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise


def flush_nf_tables() -> None:
    """Remove all tables of nf_tables with their chains, policies and rules. Raise OSError."""
    subsystem = struct.pack("=BB", 0, 0) + struct.pack(">H", _NF_TABLES)
    with Netlink(NETFILTER) as kernel:
        kernel.tell(
            kernel.message(_BATCH_BEGIN, subsystem),
            # Without a name, it is about all of them.
            kernel.message(_DELETE_TABLE, bytes(4), _ACK),
            kernel.message(_BATCH_END, subsystem),
        )
