"""Network interfaces, their addresses and routes, without a program (rtnetlink(7))."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bootc_live.system.network.netlink import CREATE, DUMP, REPLACE, ROUTE, Netlink, packed, unpacked

# struct ifinfomsg, ifaddrmsg and rtmsg.
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 18, 20, 22, 24, 26
_IFLA_IFNAME, _IFLA_NET_NS_PID = 3, 19
_IFF_UP, _IFF_LOOPBACK = 1, 8
# Of addresses: the address of the other end, the own one, broadcast, lifetime, flags.
_IFA_KEPT = (1, 2, 4, 6, 8)
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _TEMPORARY = 1, 2, 8, 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RTA_KEPT = (_RTA_DST, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC)
_MAIN, _UNICAST, _OF_KERNEL, _OF_BOOT, _SCOPE_LINK = 254, 1, 2, 3, 253


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
    with Netlink(ROUTE) as netlink:
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
    with Netlink(ROUTE) as netlink:
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + packed(_IFLA_NET_NS_PID, struct.pack("=I", pid))
        netlink.ask(_NEWLINK, body)


def restore_interfaces(before: list[Interface]) -> None:
    """Give interfaces that were moved here the state, addresses and routes that they had. Raises OSError."""
    with Netlink(ROUTE) as netlink:
        now = {each.name: each.index for each in _links(netlink)}
        here = [(each, now[each.name]) for each in before if each.name in now]
        for each, index in here:
            for request in each.addresses:
                body = request[:4] + struct.pack("=I", index) + request[8:]
                netlink.ask(_NEWADDR, body, CREATE | REPLACE)
            if each.up:
                netlink.ask(_NEWLINK, _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP))
        # A gateway is reached by a route that has none.
        requests = [(request, index) for each, index in here for request in each.routes]
        for request, index in sorted(requests, key=lambda pair: _RTA_GATEWAY in unpacked(pair[0][_ROUTE.size :])):
            body = request + packed(_RTA_OIF, struct.pack("=I", index))
            netlink.ask(_NEWROUTE, body, CREATE | REPLACE)


def set_up(name: str) -> None:
    """Raise an interface. Raise OSError."""
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEWLINK, _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), _IFF_UP, _IFF_UP))


def add_address(name: str, address: str) -> None:
    """Give an interface an address such as ``192.0.2.7/24``; nothing happens if it has it. Raise OSError."""
    given = ipaddress.ip_interface(address)
    head = _ADDRESS.pack(_family(given), given.network.prefixlen, 0, 0, socket.if_nametoindex(name))
    parts = [packed(_IFA_LOCAL, given.packed), packed(_IFA_ADDRESS, given.packed)]
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEWADDR, head + b"".join(parts), CREATE | REPLACE)


def add_route(name: str, destination: str, gateway: str, metric: int | None = None) -> None:
    """Add a route by a gateway to a network, or ``default``; nothing happens if it is there. Raise OSError."""
    by = ipaddress.ip_address(gateway)
    target = None if destination == "default" else ipaddress.ip_network(destination)
    length = target.prefixlen if target else 0
    head = _ROUTE.pack(_family(by), length, 0, 0, _MAIN, _OF_BOOT, 0, _UNICAST, 0)
    parts = [packed(_RTA_GATEWAY, by.packed), packed(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(name)))]
    if target:
        parts.append(packed(_RTA_DST, target.network_address.packed))
    if metric is not None:
        parts.append(packed(_RTA_PRIORITY, struct.pack("=I", metric)))
    with Netlink(ROUTE) as kernel:
        kernel.ask(_NEWROUTE, head + b"".join(parts), CREATE | REPLACE)


def _links(netlink: Netlink) -> Iterator[Interface]:
    for payload in netlink.ask(_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0), DUMP):
        _, _, index, flags, _ = _LINK.unpack_from(payload)
        if not flags & _IFF_LOOPBACK:
            name = unpacked(payload[_LINK.size :])[_IFLA_IFNAME].rstrip(b"\0")
            yield Interface(index, os.fsdecode(name), bool(flags & _IFF_UP))


def _addresses(netlink: Netlink) -> Iterator[tuple[int, bytes]]:
    """Yield the index of an interface, and a request that adds one of its addresses."""
    for payload in netlink.ask(_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), DUMP):
        _, _, _, scope, index = _ADDRESS.unpack_from(payload)
        attributes = unpacked(payload[_ADDRESS.size :])
        flags = struct.unpack("=I", attributes.get(_IFA_FLAGS, bytes(4)))[0]
        # The kernel makes these itself.
        if scope == _SCOPE_LINK or flags & _TEMPORARY:
            continue
        kept = b"".join(packed(name, attributes[name]) for name in _IFA_KEPT if name in attributes)
        yield index, payload[: _ADDRESS.size] + kept


def _routes(netlink: Netlink) -> Iterator[tuple[int, bytes]]:
    """Yield the index of an interface, and a request that adds one of its routes, without the interface."""
    for payload in netlink.ask(_GETROUTE, _ROUTE.pack(*[0] * 9), DUMP):
        _, _, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
        attributes = unpacked(payload[_ROUTE.size :])
        table = struct.unpack("=I", attributes.get(_RTA_TABLE, bytes(4)))[0]
        if table != _MAIN or kind != _UNICAST or protocol == _OF_KERNEL or _RTA_OIF not in attributes:
            continue
        kept = b"".join(packed(name, attributes[name]) for name in _RTA_KEPT if name in attributes)
        yield struct.unpack("=I", attributes[_RTA_OIF])[0], payload[: _ROUTE.size] + kept


def _family(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
