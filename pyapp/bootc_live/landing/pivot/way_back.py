"""Find out how a person without a console could reach a system, by what is in its tree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.formats.oci.manifest import Process
from bootc_live.landing.pivot.network import Interface
from bootc_live.landing.pivot.program import Program, ProgramWish, find_program, read_table
from bootc_live.landing.pivot.units import is_enabled

_SERVERS = {
    "/usr/sbin/sshd": ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket"),
    "/usr/sbin/dropbear": ("dropbear.service", "dropbear.socket"),
}
# Where sysvinit, OpenRC and runit have what they start by default, and how it is called there.
_STARTED_IN = (*(f"etc/rc{level}.d" for level in "2345"), "etc/runlevels/boot", "etc/runlevels/default", "etc/service")
_SCRIPT = re.compile(r"(?:S[0-9]+)?(?:sshd?|dropbear)")
_ROOT_LOGIN = re.compile(r"^\s*PermitRootLogin\s+(\S+)", re.IGNORECASE | re.MULTILINE)
_NO_SHELL = ("nologin", "false")


@dataclass(frozen=True)
class WayBack:
    """How the system can be reached; or, where ``how`` is empty, what it lacks for that."""

    how: str
    lacks: tuple[str, ...] = ()


def way_back(root: str, interfaces: Sequence[Interface], program: Program) -> WayBack:
    """Return how a system in the tree ``root``, with its first program, can be reached by ssh.

    ``interfaces`` are those of the machine.
    """
    lacks = [] if interfaces else ["the machine has no address on a network"]
    server = next((path for path in _SERVERS if _startable(root, path)), None)
    if server is None:
        lacks.append("no ssh server is in it (/usr/sbin/sshd, /usr/sbin/dropbear)")
    elif not program.init and program.path not in _SERVERS:
        lacks.append(f"{program.argv[0]!r} is to run, which may not start its ssh server")
    elif program.init and not _is_started(root, server, program):
        lacks.append(f"nothing starts its ssh server (enable {' or '.join(_SERVERS[server][:2])})")
    people = list(_people(root))
    if not people:
        lacks.append("nobody has an authorized ssh key in it")
    if lacks:
        return WayBack("", tuple(lacks))
    addresses = ", ".join(address.partition("/")[0] for each in interfaces for address in each.addresses)
    return WayBack(f"ssh as {' or '.join(people)}, at {addresses}")


def _is_started(root: str, server: str, program: Program) -> bool:
    if program.systemd:
        return any(is_enabled(root, unit) for unit in _SERVERS[server])
    found = (resolve_below(root, place) for place in _STARTED_IN)
    names = [name for place in found if place and os.path.isdir(place) for name in os.listdir(place)]
    return any(_SCRIPT.fullmatch(name) for name in names)


def _startable(root: str, path: str) -> bool:
    try:
        find_program(root, path, Process(cmd=(path,)), ProgramWish())
    except LandingError:
        return False
    return True


def _people(root: str) -> Iterator[str]:
    """Yield the users who have a shell and an authorized key."""
    for entry in read_table(root, "etc/passwd"):
        shell = os.path.basename(entry[-1])
        if len(entry) != 7 or shell in _NO_SHELL or (entry[0] == "root" and _root_is_refused(root)):
            continue
        keys = resolve_below(root, os.path.join(entry[5] or "/", ".ssh/authorized_keys"))
        if keys is not None and os.path.isfile(keys) and os.path.getsize(keys):
            yield entry[0]


def _root_is_refused(root: str) -> bool:
    directory = resolve_below(root, "etc/ssh/sshd_config.d")
    names = sorted(os.listdir(directory)) if directory and os.path.isdir(directory) else []
    for name in (*(f"etc/ssh/sshd_config.d/{name}" for name in names), "etc/ssh/sshd_config"):
        path = resolve_below(root, name)
        if path is None or not os.path.isfile(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as file:
            content = file.read()
        # The first value counts (sshd_config(5)).
        found = _ROOT_LOGIN.search(content)
        if found:
            return found[1].lower() == "no"
    return False
