"""Something that differs between hosts and stays the same on each: it spreads them over mirrors."""

from __future__ import annotations

import os

from bootc_live.config.cmdline.tokens import split_cmdline


def host_identity(root: str = "/") -> str:
    """Give the MAC addresses of the network hardware, else the DMI product UUID, else the machine id.

    Empty where a host has none of them. ``root`` is where ``/sys``, ``/etc`` and
    ``/proc`` are looked for. Not a secret, but meant to be hashed.
    """
    return _addresses(root) or _product(root) or _machine(root)


def _addresses(root: str) -> str:
    directory = os.path.join(root, "sys/class/net")
    try:
        names = os.listdir(directory)
    except OSError:
        return ""
    # Bridges, bonds and tunnels have no device, and some make up an address at every boot.
    hardware = [name for name in names if os.path.exists(os.path.join(directory, name, "device"))]
    addresses = {_line(os.path.join(directory, name, "address")).lower() for name in hardware}
    return ",".join(sorted(text for text in addresses if text.strip("0:")))


def _product(root: str) -> str:
    text = _line(os.path.join(root, "sys/class/dmi/id/product_uuid")).lower()
    # Boards whose maker left it out have one digit throughout.
    return text if len(set(text) - {"-"}) > 1 else ""


def _machine(root: str) -> str:
    text = _line(os.path.join(root, "etc/machine-id"))
    if text and text != "uninitialized":
        return text
    tokens = split_cmdline(_line(os.path.join(root, "proc/cmdline")))
    return next((token.value or "" for token in reversed(tokens) if token.name == "systemd.machine_id"), "")


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
