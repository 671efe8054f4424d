"""Keep the firewall's rules while the services end that would remove them, or remove all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from bootc_live.base.errors import LandingError, RunError
from bootc_live.landing.pivot.units import RUN, wanted_by, written_files
from bootc_live.system.network.netlink import flush_nf_tables, has_nf_tables
from bootc_live.system.run import find_program, run

# Services that remove rules when they are stopped: by a command, or at a signal.
SERVICES = (
    *("nftables.service", "iptables.service", "ip6tables.service", "ipset.service", "netfilter-persistent.service"),
    *("ufw.service", "firewalld.service", "shorewall.service", "shorewall6.service"),
)
_TIDY = "bootc-live-firewall.service"
_DROP_IN = "[Service]\nExecStop=\nExecStopPost=\nKillSignal=SIGKILL\n"
# The kernel lists the tables of the older interface there, with what changes them, and what each has.
_LEGACY = {"/proc/net/ip_tables_names": "iptables", "/proc/net/ip6_tables_names": "ip6tables"}
_CHAINS = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_HINT = "leave --flush-firewall out, and the rules stay as they are"


def check_flush() -> None:
    """Raise LandingError if the rules could not be removed."""
    try:
        has_nf_tables()
    except OSError as error:
        raise LandingError(
            f"--flush-firewall is not possible here: the kernel does not show nf_tables: {error.strerror}", hint=_HINT
        ) from error
    for path, program in _LEGACY.items():
        if _tables(path) and _program(program) is None:
            raise LandingError(
                f"--flush-firewall is not possible here: the kernel has rules of {program}, which is missing",
                hint=f"install iptables, or {_HINT}",
            )


def flush_firewall() -> None:
    """Remove all tables, chains, policies and rules. Raise OSError, RunError."""
    if has_nf_tables():
        flush_nf_tables()
    for path, name in _LEGACY.items():
        program = _program(name)
        for table in _tables(path) if program else ():
            # First what is refused by default, or nobody could come in any more.
            for chain in _CHAINS.get(table, ()):
                run([str(program), "-t", table, "-P", chain, "ACCEPT"])
            for option in ("-F", "-X"):
                run([str(program), "-t", table, option])


def _has_rules() -> bool:
    try:
        return has_nf_tables() or any(map(_tables, _LEGACY))
    except OSError:
        return True


def _tables(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _program(name: str) -> str | None:
    return find_program(f"{name}-legacy") or find_program(name)


@contextmanager
def kept_rules() -> Iterator[None]:
    """Let systemd end the services that have rules so that these stay; if the block fails, as before.

    Raise RunError.
    """
    # Asking systemd takes longer than asking the kernel.
    argv = ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", *SERVICES]
    listed = run(argv) if _has_rules() else ""
    names = [line.split()[0] for line in listed.splitlines() if line]
    if not names:
        yield
        return
    with ExitStack() as undo:
        undo.callback(_forget, names)
        with written_files(keeping_files(names)):
            run(["systemctl", "daemon-reload"])
            yield
        undo.pop_all()


def keeping_files(names: Sequence[str]) -> dict[str, str]:
    """Return files by path that let services end without their commands; and what removes them for the next system."""
    drop_ins = {f"{RUN}/{name}.d/bootc-live.conf": _DROP_IN for name in names}
    link = wanted_by(_TIDY, "soft-reboot.target")
    lines = ["[Unit]", "DefaultDependencies=no", "After=final.target", "Before=systemd-soft-reboot.service", ""]
    lines += [
        "[Service]",
        "Type=oneshot",
        f"ExecStart=rm -rf {' '.join([*map(os.path.dirname, drop_ins), *link, f'{RUN}/{_TIDY}'])}",
        "",
    ]
    return {**drop_ins, f"{RUN}/{_TIDY}": "\n".join(lines), **link}


def _forget(names: Sequence[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.rmdir(f"{RUN}/{name}.d")
    with suppress(RunError):
        run(["systemctl", "daemon-reload"])
