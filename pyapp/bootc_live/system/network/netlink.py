"""Ask the kernel by netlink(7), without a program: addresses and routes, and the tables of nf_tables."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from types import TracebackType
from typing import Self

ROUTE, NETFILTER = 0, 12
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 1, 4, 0x300, 0x100, 0x400
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_LARGEST = 1 << 18
# As rtnetlink(7) and its headers have them.
_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 20, 24
_LOCAL, _ADDRESS = 2, 1
_DESTINATION, _OUT, _GATEWAY, _PRIORITY = 1, 4, 5, 6
_UP, _MAIN, _BOOT, _UNICAST = 1, 254, 3, 1
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
        self._socket.send(self.message(kind, content, flags | (0 if flags == _DUMP else _ACK)))
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


def set_up(name: str) -> None:
    """Raise an interface. Raise OSError."""
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEW_LINK, struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), _UP, _UP))


def add_address(name: str, address: str) -> None:
    """Give an interface an address such as ``192.0.2.7/24``; nothing happens if it has it. Raise OSError."""
    given = ipaddress.ip_interface(address)
    head = struct.pack("=BBBBi", _family(given), given.network.prefixlen, 0, 0, socket.if_nametoindex(name))
    parts = [_attribute(_LOCAL, given.packed), _attribute(_ADDRESS, given.packed)]
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEW_ADDRESS, head + b"".join(parts), _CREATE | _REPLACE)


def add_route(name: str, destination: str, gateway: str, metric: int | None = None) -> None:
    """Add a route by a gateway to a network, or ``default``; nothing happens if it is there. Raise OSError."""
    by = ipaddress.ip_address(gateway)
    target = None if destination == "default" else ipaddress.ip_network(destination)
    length = target.prefixlen if target else 0
    head = struct.pack("=BBBBBBBBI", _family(by), length, 0, 0, _MAIN, _BOOT, 0, _UNICAST, 0)
    parts = [_attribute(_GATEWAY, by.packed), _attribute(_OUT, struct.pack("=i", socket.if_nametoindex(name)))]
    if target:
        parts.append(_attribute(_DESTINATION, target.network_address.packed))
    if metric is not None:
        parts.append(_attribute(_PRIORITY, struct.pack("=I", metric)))
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEW_ROUTE, head + b"".join(parts), _CREATE | _REPLACE)


def has_nf_tables() -> bool:
    """Return whether the network has tables of nf_tables; raise OSError if nobody may ask."""
    try:
        with Netlink(NETFILTER) as kernel:
            return bool(kernel.ask(_GET_TABLE, bytes(4), _DUMP))
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


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
