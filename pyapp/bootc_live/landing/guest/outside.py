"""Do for the guest what only a process of the container can, when the guest is in namespaces of its own."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.landing.guest import cgroup
from bootc_live.landing.guest.plan import GuestPlan, Ranges, lines, outside
from bootc_live.landing.guest.step import step
from bootc_live.landing.surroundings import open_sys
from bootc_live.system.descriptors import receive, send, socket_pair
from bootc_live.system.network.interfaces import Interface, move_interface
from bootc_live.system.system_call import libc_call

_PR_SET_PDEATHSIG = 1
_DONE = b"done"


@contextmanager
def helper_outside(
    plan: GuestPlan, interfaces: Sequence[Interface], group: str | None
) -> Iterator[Callable[[], int | None]]:
    """Start a process that stays in the namespaces of the container; it ends with the block.

    What it yields makes it write the ID map, move interfaces and delegate a control group, for this process in its new
    namespaces, and waits for that. With a map, it returns the descriptor of a mount for /sys. It raises LandingError.
    """
    first = os.getpid()
    ours, theirs = socket_pair()
    helper = os.fork()
    if helper == 0:
        os.close(ours)
        _help(theirs, lambda: _work(first, plan, interfaces, group))
    os.close(theirs)

    def help_now() -> int | None:
        os.write(ours, b"!")
        said, descriptors = receive(ours)
        if said != _DONE:
            problem = json.loads(said or '["the helper outside of the guest was killed", "look at the kernel log"]')
            raise LandingError(problem[0], hint=problem[1])
        return descriptors[0] if descriptors else None

    try:
        yield help_now
    finally:
        os.close(ours)
        os.waitpid(helper, 0)


def _help(channel: int, work: Callable[[], list[int]]) -> NoReturn:
    try:
        libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.read(channel, 1):
            send(channel, _DONE, work())
    except LandingError as error:
        os.write(channel, json.dumps([error.message, error.hint]).encode())
    finally:
        os._exit(0)


def _work(first: int, plan: GuestPlan, interfaces: Sequence[Interface], group: str | None) -> list[int]:
    for name, ranges in (("uid", plan.users), ("gid", plan.groups)):
        if ranges:
            key = "id_map.users" if name == "uid" else "id_map.groups"
            with step(key, "write the map", "map only IDs that the container has itself: see /proc/self/uid_map"):
                _write_map(f"/proc/{first}/{name}_map", ranges)
    if group is not None and plan.users:
        with step("id_map", "give the guest its control group"):
            cgroup.delegate(group, outside(plan.users), outside(plan.groups))
    for each in interfaces:
        with step("setup.mode", f"move the interface {each.name!r}"):
            try:
                move_interface(each.index, first)
            except OSError as error:
                # Such as the ends of tunnels that every namespace has.
                if error.errno != errno.EINVAL or each.addresses:
                    raise
    if not plan.users:
        return []
    try:
        return [open_sys(f"/proc/{first}/ns/net")]
    except PermissionError:
        # In a container that is in a user namespace itself.
        return []


def _write_map(path: str, ranges: Ranges) -> None:
    # The kernel takes it in one piece.
    with open(path, "wb", buffering=0) as file:
        file.write(lines(ranges).encode())
