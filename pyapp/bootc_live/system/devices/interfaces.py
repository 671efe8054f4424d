"""Network interfaces, their addresses and routes, without a program (rtnetlink(7))."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
# struct ifinfomsg, ifaddrmsg and rtmsg.
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
_DONE, _ERROR = 3, 2
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 18, 20, 22, 24, 26
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 1, 4, 0x300, 0x100, 0x400
_IFLA_IFNAME, _IFLA_NET_NS_PID = 3, 19
_IFF_UP, _IFF_LOOPBACK = 1, 8
# Of addresses: the address of the other end, the own one, broadcast, lifetime, flags.
_IFA_KEPT = (1, 2, 4, 6, 8)
_IFA_FLAGS, _TEMPORARY = 8, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RTA_KEPT = (_RTA_DST, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC)
_MAIN, _UNICAST, _OF_KERNEL, _SCOPE_LINK = 254, 1, 2, 253
_BUFFER = 1 << 18

_Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Interface:
    """A network interface of this namespace, with requests that give its addresses and routes to one of its name."""

    index: int
    name: str
    up: bool
    addresses: tuple[bytes, ...] = ()
    routes: tuple[bytes, ...] = ()


def network_interfaces() -> list[Interface]:
    """Return all interfaces but the loopback. Raises OSError."""
    with _Socket() as netlink:
        found = list(_links(netlink))
        addresses = list(_addresses(netlink))
        routes = list(_routes(netlink))
    return [
        Interface(
            each.index,
            each.name,
            each.up,
            tuple(request for index, request in addresses if index == each.index),
            tuple(request for index, request in routes if index == each.index),
        )
        for each in found
    ]


def move_interface(index: int, pid: int) -> None:
    """Move an interface into the network namespace of a process; it loses addresses and routes. Raises OSError."""
    with _Socket() as netlink:
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + _packed(_IFLA_NET_NS_PID, struct.pack("=I", pid))
        netlink.ask(_NEWLINK, _REQUEST | _ACK, body)


def restore_interfaces(before: list[Interface]) -> None:
    """Give interfaces that were moved here the state, addresses and routes that they had. Raises OSError."""
    with _Socket() as netlink:
        now = {each.name: each.index for each in _links(netlink)}
        here = [(each, now[each.name]) for each in before if each.name in now]
        for each, index in here:
            for request in each.addresses:
                body = request[:4] + struct.pack("=I", index) + request[8:]
                netlink.ask(_NEWADDR, _REQUEST | _ACK | _CREATE | _REPLACE, body)
            if each.up:
                netlink.ask(_NEWLINK, _REQUEST | _ACK, _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP))
        # A gateway is reached by a route that has none.
        requests = [(request, index) for each, index in here for request in each.routes]
        for request, index in sorted(requests, key=lambda pair: _RTA_GATEWAY in _unpacked(pair[0][_ROUTE.size :])):
            body = request + _packed(_RTA_OIF, struct.pack("=I", index))
            netlink.ask(_NEWROUTE, _REQUEST | _ACK | _CREATE | _REPLACE, body)


class _Socket:
    """A connection to the kernel."""

    def __enter__(self) -> Self:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Send a request; return the answers, each with its kind. Raises OSError."""
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        answers = list[tuple[int, bytes]]()
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at + _HEADER.size <= len(data):
                length, found, _, _, _ = _HEADER.unpack_from(data, at)
                payload = data[at + _HEADER.size : at + length]
                if found == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                if found in (_ERROR, _DONE):
                    return answers
                answers.append((found, payload))
                at += _aligned(length)


def _links(netlink: _Socket) -> Iterator[Interface]:
    for kind, payload in netlink.ask(_GETLINK, _REQUEST | _DUMP, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(payload)
        if kind == _NEWLINK and not flags & _IFF_LOOPBACK:
            name = _unpacked(payload[_LINK.size :])[_IFLA_IFNAME].rstrip(b"\0")
            yield Interface(index, os.fsdecode(name), bool(flags & _IFF_UP))


def _addresses(netlink: _Socket) -> Iterator[tuple[int, bytes]]:
    """Yield the index of an interface, and a request that adds one of its addresses."""
    for _, payload in netlink.ask(_GETADDR, _REQUEST | _DUMP, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, _, _, scope, index = _ADDRESS.unpack_from(payload)
        attributes = _unpacked(payload[_ADDRESS.size :])
        flags = struct.unpack("=I", attributes.get(_IFA_FLAGS, bytes(4)))[0]
        # The kernel makes these itself.
        if scope == _SCOPE_LINK or flags & _TEMPORARY:
            continue
        kept = b"".join(_packed(name, attributes[name]) for name in _IFA_KEPT if name in attributes)
        yield index, payload[: _ADDRESS.size] + kept


def _routes(netlink: _Socket) -> Iterator[tuple[int, bytes]]:
    """Yield the index of an interface, and a request that adds one of its routes, without the interface."""
    for _, payload in netlink.ask(_GETROUTE, _REQUEST | _DUMP, _ROUTE.pack(*[0] * 9)):
        _, _, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
        attributes = _unpacked(payload[_ROUTE.size :])
        table = struct.unpack("=I", attributes.get(_RTA_TABLE, bytes(4)))[0]
        if table != _MAIN or kind != _UNICAST or protocol == _OF_KERNEL or _RTA_OIF not in attributes:
            continue
        kept = b"".join(_packed(name, attributes[name]) for name in _RTA_KEPT if name in attributes)
        yield struct.unpack("=I", attributes[_RTA_OIF])[0], payload[: _ROUTE.size] + kept


def _packed(name: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, name) + value + bytes(_aligned(length) - length)


def _unpacked(data: bytes) -> _Attributes:
    found = _Attributes()
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, name = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[name & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
