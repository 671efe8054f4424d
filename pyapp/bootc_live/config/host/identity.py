"""Return a stable identity of the host, which distributes hosts over mirrors."""

from __future__ import annotations

import os

from bootc_live.config.cmdline.tokens import split_cmdline


def host_identity(root: str = "/") -> str:
    """Return the MAC addresses of network hardware, else the DMI product UUID, else the machine ID, else ``""``.

    Paths such as ``/sys`` are below ``root``.
    """
    return _addresses(root) or _product(root) or _machine(root)


def _addresses(root: str) -> str:
    directory = os.path.join(root, "sys/class/net")
    try:
        names = os.listdir(directory)
    except OSError:
        return ""
    # Bridges, bonds and tunnels have no device, and some get a random address at every boot.
    hardware = [name for name in names if os.path.exists(os.path.join(directory, name, "device"))]
    addresses = {_line(os.path.join(directory, name, "address")).lower() for name in hardware}
    return ",".join(sorted(text for text in addresses if text.strip("0:")))


def _product(root: str) -> str:
    text = _line(os.path.join(root, "sys/class/dmi/id/product_uuid")).lower()
    # Boards without a UUID repeat one digit.
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
