"""Join a Tailscale network in the new system, so that people reach it there; the key is in RAM until that is done."""

from __future__ import annotations

import os
import re

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.formats.oci.manifest import Process
from bootc_live.landing.pivot.program import ProgramWish, find_program
from bootc_live.landing.pivot.units import PRIVATE, RUN, is_enabled, wanted_by

_OPTION = "--tailscale-authkey-file"
_DAEMON, _JOIN = "bootc-live-tailscaled.service", "bootc-live-tailscale.service"
_OWN_DAEMON = "tailscaled.service"
# Of the unit that joins: systemd removes it with the unit, whatever becomes of that.
_PLACE = "bootc-live-tailscale"
_KEY = f"/run/{_PLACE}/{PRIVATE}"
_SOCKET = "/run/tailscale/tailscaled.sock"
_TUNNEL = "/dev/net/tun"
_LONGEST = 4096
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9-]+")
_LONGEST_NAME = 63 - len("-live")


def read_key(path: str) -> str:
    """Return the key in a file; raise ConfigError."""
    try:
        with open(path, encoding="ascii") as file:
            key = file.read(_LONGEST).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{_OPTION} {path!r} cannot be read: {reason}", hint="check the path") from error
    if not key or len(key.split()) > 1:
        raise ConfigError(f"{_OPTION} {path!r} has no key on its only line", hint="write the key alone into it")
    return key


def network_name(node: str) -> str:
    """Return the name of a machine in the network: its host name with ``-live``."""
    label = _NOT_OF_A_NAME.sub("-", node.partition(".")[0].lower()).strip("-")
    return f"{label[:_LONGEST_NAME] or 'machine'}-live"


def tailscale_files(root: str, source_text: str, key: str, node: str) -> dict[str, str]:
    """Return units and the key by path, for the system in the tree ``root``; ``node`` is the host name.

    Raise LandingError if the programs are not in it.
    """
    daemon, client = (_find(root, source_text, name) for name in ("tailscaled", "tailscale"))
    files = {_KEY: f"{key}\n"}
    if is_enabled(root, _OWN_DAEMON):
        unit = _OWN_DAEMON
    else:
        unit = _DAEMON
        tun = "" if os.path.exists(_TUNNEL) else " --tun=userspace-networking"
        files[f"{RUN}/{unit}"] = _unit(
            "Tailscale's daemon, for the system after a pivot",
            ["After=network-pre.target", "Wants=network-pre.target"],
            ["Type=notify", "RuntimeDirectory=tailscale", "Restart=on-failure", "RestartSec=5"],
            f"{daemon} --state=mem: --socket={_SOCKET}{tun}",
        )
    # The key is in a file, as everybody may read the arguments of a process.
    options = f"--auth-key=file:{_KEY} --ssh --hostname={network_name(node)} --timeout=60s"
    order = [f"Requires={unit}", f"After={unit} network-online.target", "Wants=network-online.target"]
    service = ["Type=oneshot", "Restart=on-failure", "RestartSec=5", f"RuntimeDirectory={_PLACE}"]
    files[f"{RUN}/{_JOIN}"] = _unit(
        "Join the Tailscale network",
        [*order, "StartLimitIntervalSec=0"],
        [*service, "RuntimeDirectoryMode=0700", "RuntimeDirectoryPreserve=restart"],
        f"{client} --socket={_SOCKET} up {options}",
    )
    return {**files, **wanted_by(_JOIN, "multi-user.target")}


def _find(root: str, source_text: str, name: str) -> str:
    try:
        return find_program(root, source_text, Process(cmd=(name,)), ProgramWish()).path
    except LandingError as error:
        raise LandingError(
            f"{_OPTION} needs Tailscale in the image: {error.message}",
            hint="add it as a source on top, or use another image",
        ) from error


def _unit(description: str, order: list[str], service: list[str], command: str) -> str:
    lines = ["[Unit]", f"Description={description}", *order, "", "[Service]", *service, f"ExecStart={command}", ""]
    return "\n".join(lines)
