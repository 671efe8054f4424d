"""Keep the addresses and routes of a running machine, if nothing in the new system says others.

Stopping the old system may remove them. They are written below /run as configuration of whatever configures the network
of the new system, in a place that everything of its own comes before.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bootc_live.base.errors import RunError
from bootc_live.base.paths import resolve_below
from bootc_live.landing.pivot.units import is_enabled, wanted_by
from bootc_live.system.run import find_program, run

_NETWORKD, _NETWORK_MANAGER = "systemd-networkd.service", "NetworkManager.service"
_UNIT = "bootc-live-network.service"


@dataclass(frozen=True)
class Route:
    """A route by a gateway; ``destination`` is a network such as ``192.0.2.0/24``, or ``default``."""

    destination: str
    gateway: str
    metric: int | None = None


@dataclass(frozen=True)
class Interface:
    """A card with addresses such as ``192.0.2.7/24``; ``dynamic`` if a DHCP server or a router gave one of them."""

    name: str
    mac: str
    addresses: tuple[str, ...]
    routes: tuple[Route, ...] = ()
    dynamic: bool = False


def present_network() -> tuple[Interface, ...]:
    """Return the cards that have addresses for others than the machine itself; none without the program ip."""
    if find_program("ip") is None:
        return ()
    with suppress(RunError, ValueError):
        addresses = json.loads(run(["ip", "-json", "address", "show"]))
        routes = [json.loads(run(["ip", "-json", family, "route", "show"]) or "[]") for family in ("-4", "-6")]
        return parse_network(addresses, [route for listed in routes for route in listed])
    return ()


def parse_network(addresses: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]) -> tuple[Interface, ...]:
    """Return the cards in the output of ``ip -json``."""
    found = []
    for link in addresses:
        ours = [entry for entry in link.get("addr_info", []) if entry.get("scope") == "global"]
        # What has no MAC address, such as a tunnel, is made by a service.
        if not ours or link.get("link_type") != "ether" or link.get("linkinfo"):
            continue
        name = str(link["ifname"])
        by = [route for route in routes if route.get("dev") == name and "gateway" in route]
        found.append(
            Interface(
                name,
                str(link.get("address", "")),
                tuple(f"{entry['local']}/{entry['prefixlen']}" for entry in ours if not entry.get("temporary")),
                tuple(Route(str(route["dst"]), str(route["gateway"]), route.get("metric")) for route in by),
                dynamic=any(entry.get("dynamic") for entry in ours),
            )
        )
    return tuple(found)


def network_files(root: str, interfaces: Sequence[Interface], servers: Sequence[str]) -> dict[str, str]:
    """Return files by path, for the system in the tree ``root``; ``servers`` are name servers."""
    if is_enabled(root, _NETWORKD):
        place = "/run/systemd/network"
        return {f"{place}/zz-bootc-live-{each.name}.network": _networkd(each, servers) for each in interfaces}
    if is_enabled(root, _NETWORK_MANAGER):
        place = "/run/NetworkManager/system-connections"
        return {f"{place}/bootc-live-{each.name}.nmconnection": _keyfile(each, servers) for each in interfaces}
    ip = next((name for name in ("usr/sbin/ip", "usr/bin/ip", "sbin/ip") if resolve_below(root, name)), None)
    if ip is None or not interfaces:
        return {}
    return {f"/run/systemd/system/{_UNIT}": _unit(f"/{ip}", interfaces), **wanted_by(_UNIT, "sysinit.target")}


def _networkd(interface: Interface, servers: Sequence[str]) -> str:
    """Return systemd.network(5)."""
    lines = ["[Match]", f"MACAddress={interface.mac}", f"Name={interface.name}", "", "[Network]"]
    if interface.dynamic:
        lines += ["DHCP=yes", "IPv6AcceptRA=yes"]
    else:
        lines += [f"Address={address}" for address in interface.addresses]
    lines += [f"DNS={server}" for server in servers]
    for route in () if interface.dynamic else interface.routes:
        lines += ["", "[Route]", f"Gateway={route.gateway}"]
        lines += [] if route.destination == "default" else [f"Destination={route.destination}"]
        lines += [] if route.metric is None else [f"Metric={route.metric}"]
    return "\n".join([*lines, ""])


def _keyfile(interface: Interface, servers: Sequence[str]) -> str:
    """Return nm-settings-keyfile(5)."""
    lines = ["[connection]", f"id=bootc-live-{interface.name}", "type=ethernet", f"interface-name={interface.name}"]
    # Profiles of the image come first.
    lines += ["autoconnect-priority=-100", "", "[ethernet]", f"mac-address={interface.mac}"]
    for version, section in ((4, "ipv4"), (6, "ipv6")):
        own = [address for address in interface.addresses if _version(address) == version]
        lines += ["", f"[{section}]"]
        if interface.dynamic or not own:
            lines += ["method=auto"]
            continue
        lines += ["method=manual", *(f"address{number}={address}" for number, address in enumerate(own, 1))]
        routes = [route for route in interface.routes if _version(route.gateway) == version]
        for number, route in enumerate(routes, 1):
            network = {4: "0.0.0.0/0", 6: "::/0"}[version] if route.destination == "default" else route.destination
            metric = "" if route.metric is None else f",{route.metric}"
            lines.append(f"route{number}={network},{route.gateway}{metric}")
        named = [server for server in servers if _version(server) == version]
        lines += [f"dns={';'.join(named)};"] if named else []
    return "\n".join([*lines, ""])


def _unit(ip: str, interfaces: Sequence[Interface]) -> str:
    """Return a unit that sets everything again; what is still there is left alone."""
    commands = []
    for interface in interfaces:
        commands.append(f"{ip} link set dev {interface.name} up")
        commands += [f"{ip} address replace {address} dev {interface.name}" for address in interface.addresses]
        for route in interface.routes:
            metric = "" if route.metric is None else f" metric {route.metric}"
            commands.append(f"{ip} route replace {route.destination} via {route.gateway} dev {interface.name}{metric}")
    lines = ["[Unit]", "Description=Addresses and routes from before the pivot", "DefaultDependencies=no"]
    lines += ["Before=network-pre.target sysinit.target", "", "[Service]", "Type=oneshot", "RemainAfterExit=yes"]
    return "\n".join([*lines, *(f"ExecStart=-{command}" for command in commands), ""])


def _version(text: str) -> int:
    return ipaddress.ip_interface(text).version
