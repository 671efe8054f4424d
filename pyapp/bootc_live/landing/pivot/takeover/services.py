"""Stop services by their init, except those of the network, and start them again if nothing follows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bootc_live.base.errors import RunError
from bootc_live.system.run import find_program, run

# Parts of the names of services that would take addresses, links or rules of the firewall away.
_LEFT_ALONE = (
    *("net", "dhc", "wpa", "iwd", "connman", "ppp", "NetworkManager"),
    *("nft", "tables", "ipset", "ufw", "firewall", "shorewall", "ferm"),
)
# What systemd itself consists of, what a person looks at, and this program.
_OF_SYSTEMD = (
    "systemd-",
    "dbus",
    "user@",
    "user-runtime-dir@",
    "getty@",
    "serial-getty@",
    "console-getty",
    "bootc-live",
)
_LEVEL = "run/openrc/softlevel"
_SECONDS_TO_STOP = 30
# Whoever is started by a stop must not be waited for.
_QUIETLY = ("sh", "-c", 'exec timeout "$0" "$@" >/dev/null 2>&1', str(_SECONDS_TO_STOP))


@dataclass(frozen=True)
class Service:
    """The commands that stop a service, or several, and start it again; without the second, nothing starts it."""

    stop: Sequence[str]
    start: Sequence[str] = ()


def services(init: str, root: str = "/") -> list[Service]:
    """Return the services of an init in the order in which they stop; none for an init without services."""
    if os.path.exists(os.path.join(root, _LEVEL)):
        with open(os.path.join(root, _LEVEL), encoding="utf-8") as file:
            level = file.read().strip()
        names = _names(root, f"etc/runlevels/{level}")
        return [Service(["rc-service", "--ifstarted", name, "stop"], ["rc-service", name, "start"]) for name in names]
    if init == "runit":
        paths = [f"/etc/service/{name}" for name in _names(root, "etc/service")]
        return [Service(["sv", "-w", "10", "force-stop", path], ["sv", "start", path]) for path in paths]
    if init == "init":
        return list(_scripts(root))
    return list(_units()) if init == "systemd" else []


def _scripts(root: str) -> Iterator[Service]:
    """Yield the scripts of sysvinit; those that this runlevel starts can be started again."""
    level = _runlevel()
    started = {name[3:]: f"/etc/rc{level}.d/{name}" for name in _names(root, f"etc/rc{level}.d") if name[:1] == "S"}
    for name in _names(root, "etc/rc1.d"):
        if name.startswith("K"):
            start = started.get(name[3:])
            yield Service([f"/etc/rc1.d/{name}", "stop"], [start, "start"] if start else ())


def _runlevel() -> str:
    with suppress(RunError, IndexError):
        if find_program("runlevel"):
            return run(["runlevel"]).split()[1]
    # Debian's.
    return "2"


def _units() -> Iterator[Service]:
    """Yield the running services of systemd but its own, and that which this program is."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = file.read().strip().rpartition("/")[2]
    listed = []
    with suppress(RunError):
        listed = run(["systemctl", "list-units", "--type=service", "--state=running", "--plain", "--no-legend"]).split(
            "\n"
        )
    names = stoppable(line.split()[0] for line in listed if line)
    if found := [name for name in names if name != own]:
        yield Service(["systemctl", "stop", *found], ["systemctl", "start", *found])


def stoppable(names: Iterable[str]) -> list[str]:
    """Return the units of systemd that need not run until everything ends."""
    return [name for name in names if not name.startswith(_OF_SYSTEMD) and not _left_alone(name)]


def _names(root: str, directory: str) -> list[str]:
    path = os.path.join(root, directory)
    return [name for name in sorted(os.listdir(path)) if not _left_alone(name)] if os.path.isdir(path) else []


def _left_alone(name: str) -> bool:
    return any(part in name for part in _LEFT_ALONE)


def stop_services() -> list[Service]:
    """Let the init stop its services, and return them; what does not stop is left to ``end_processes``."""
    found = services(os.path.basename(os.readlink("/proc/1/exe")))
    for service in found:
        with suppress(RunError):
            run([*_QUIETLY, *service.stop])
    return found


def start_services(stopped: Sequence[Service]) -> None:
    """Start them again, the last one that stopped first."""
    for service in reversed(stopped):
        with suppress(RunError):
            if service.start:
                run([*_QUIETLY, *service.start])
