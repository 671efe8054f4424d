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
from bootc_live.landing.guest.plan import GuestPlan, Ranges, outside
from bootc_live.landing.guest.step import step
from bootc_live.system.rtnetlink import Interface, move_interface
from bootc_live.system.system_call import libc_call

_PR_SET_PDEATHSIG = 1
_LONGEST = 1 << 16


@contextmanager
def helper_outside(plan: GuestPlan, interfaces: Sequence[Interface], group: str | None) -> Iterator[Callable[[], None]]:
    """Start a process that stays in the namespaces of the container; it ends with the block.

    What it yields makes it write the ID map, move interfaces and delegate a control group, for this process in its new
    namespaces, and waits for that; it raises LandingError.
    """
    first = os.getpid()
    wake, woken = os.pipe()[::-1]
    told, tell = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(wake)
        os.close(told)
        _help(woken, tell, lambda: _work(first, plan, interfaces, group))
    os.close(woken)
    os.close(tell)

    def help_now() -> None:
        os.write(wake, b"!")
        answer = json.loads(os.read(told, _LONGEST) or b'"the process outside was killed"')
        if answer:
            raise (
                LandingError(answer[0], hint=answer[1])
                if isinstance(answer, list)
                else LandingError(answer, hint="look at the kernel log (dmesg)")
            )

    try:
        yield help_now
    finally:
        os.close(wake)
        os.close(told)
        os.waitpid(helper, 0)


def _help(woken: int, tell: int, work: Callable[[], None]) -> NoReturn:
    answer: list[str] = []
    try:
        libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.read(woken, 1):
            work()
            os.write(tell, json.dumps(answer).encode())
    except LandingError as error:
        os.write(tell, json.dumps([error.message, error.hint]).encode())
    finally:
        os._exit(0)


def _work(first: int, plan: GuestPlan, interfaces: Sequence[Interface], group: str | None) -> None:
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


def _write_map(path: str, ranges: Ranges) -> None:
    text = "".join(f"{each.inside} {each.outside} {each.size}\n" for each in ranges)
    # The kernel takes it in one piece.
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())
