"""Carry over what makes a machine this machine: its name, its resolver, its ssh keys, modules of its kernel.

Only what the new root does not have itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from bootc_live.base.paths import directory_below, resolve_below
from bootc_live.landing.sysroot.modules import have_modules, needs_modules

_MODULES = "usr/lib/modules"
_HOST_KEYS = "etc/ssh"
_KEYS = "ssh_host_"
# What asks a resolver on the machine itself, which the new root may not run.
_STUBS = ("127.0.0.53", "127.0.0.54", "127.0.0.1", "::1")
_BEHIND_THE_STUB = "run/systemd/resolve/resolv.conf"
_UNINITIALISED = ("", "uninitialized")


@dataclass(frozen=True)
class Carried:
    """What was carried over, for the plan and the record: a name, and how it is shown."""

    name: str
    bytes: int = 0


def carry_over(root: str, old: str = "/") -> list[Carried]:
    """Add to the mounted tree ``root`` what it lacks of the system ``old``; raise OSError."""
    return [
        *_hostname(root),
        *_machine_id(root, old),
        *_resolver(root, old),
        *_ssh(root, old),
        *_modules(root, old),
    ]


def _hostname(root: str) -> Iterator[Carried]:
    name = os.uname().nodename
    if not _text(root, "etc/hostname") and name not in ("", "(none)", "localhost"):
        _write(root, "etc/hostname", f"{name}\n")
        yield Carried(f"host name {name}")


def _machine_id(root: str, old: str) -> Iterator[Carried]:
    """Keep the identity: a DHCP server gives the same address for it."""
    before = _text(old, "etc/machine-id")
    if before not in _UNINITIALISED and _text(root, "etc/machine-id") in _UNINITIALISED:
        _write(root, "etc/machine-id", f"{before}\n", 0o444)
        yield Carried("machine-id")


def _resolver(root: str, old: str) -> Iterator[Carried]:
    if os.path.islink(os.path.join(resolve_below(root, "etc") or root, "resolv.conf")):
        # It leads to what a service of the new system writes.
        return
    content = _resolv_conf(old)
    if content and not _text(root, "etc/resolv.conf"):
        _write(root, "etc/resolv.conf", f"{content}\n")
        yield Carried("resolver")


def carry_resolver(root: str, old: str = "/") -> None:
    """Add only /etc/resolv.conf to a root that lacks it; raise OSError."""
    list(_resolver(root, old))


def name_servers(old: str = "/") -> list[str]:
    """Return the addresses of the name servers that the system ``old`` asks."""
    return _servers(_resolv_conf(old))


def _resolv_conf(old: str) -> str:
    content = _text(old, "etc/resolv.conf")
    if set(_servers(content)) <= set(_STUBS):
        content = _text(old, _BEHIND_THE_STUB) or content
    return content


def _servers(content: str) -> list[str]:
    words = [line.split() for line in content.splitlines()]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def _ssh(root: str, old: str) -> Iterator[Carried]:
    """Keep host keys and root's own keys, so that the same people reach the same machine."""
    place, source = resolve_below(root, _HOST_KEYS), resolve_below(old, _HOST_KEYS)
    if place is not None and source is not None and not any(name.startswith(_KEYS) for name in os.listdir(place)):
        names = [name for name in sorted(os.listdir(source)) if name.startswith(_KEYS)]
        for name in names:
            shutil.copy2(os.path.join(source, name), os.path.join(place, name))
        if names:
            yield Carried(f"{sum(not name.endswith('.pub') for name in names)} ssh host keys")
    keys = _text(old, "root/.ssh/authorized_keys")
    if keys and not _text(root, "root/.ssh/authorized_keys"):
        directory_below(root, "root/.ssh", 0o700)
        _write(root, "root/.ssh/authorized_keys", f"{keys}\n", 0o600)
        yield Carried("authorized ssh keys of root")


def _modules(root: str, old: str) -> Iterator[Carried]:
    release = os.uname().release
    source = resolve_below(old, f"{_MODULES}/{release}") or resolve_below(old, f"lib/modules/{release}")
    if not needs_modules() or have_modules(root, release) or source is None:
        return
    target = os.path.join(directory_below(root, "lib/modules"), release)
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("build", "source", "vmlinuz"))
    size = sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(target) for name in names)
    yield Carried(f"modules of the kernel {release}", size)


def _text(root: str, name: str) -> str:
    """Return a file's content without blanks around it; empty if there is none."""
    path = resolve_below(root, name)
    if path is None or not os.path.isfile(path):
        return ""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().strip()


def _write(root: str, name: str, content: str, mode: int = 0o644) -> None:
    parent, _, last = name.rpartition("/")
    path = os.path.join(directory_below(root, parent), last)
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
