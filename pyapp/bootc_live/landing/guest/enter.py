"""Become the init of a guest: what the first process of a container does when everything else is ready.

When the root has been replaced, Python could no longer load a module: everything is imported above.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.output import print_message
from bootc_live.config.guest.model import RootMode
from bootc_live.landing.guest import cgroup
from bootc_live.landing.guest.hooks import offer_shell, reap, run_hooks
from bootc_live.landing.guest.outside import helper_outside
from bootc_live.landing.guest.plan import GuestPlan
from bootc_live.landing.guest.platform import has_own_network
from bootc_live.landing.guest.step import step
from bootc_live.landing.guest.tools.initctl import serve_beside
from bootc_live.landing.guest.tools.run_parts import command_for
from bootc_live.landing.surroundings import make_cgroups, make_device_file_systems, make_run, make_sys, place_below
from bootc_live.system import namespaces
from bootc_live.system.cleanup.guard import STOPPING_SIGNALS, unshare_mounts
from bootc_live.system.mounts import attach_tree, mount_tree
from bootc_live.system.network.interfaces import network_interfaces, restore_interfaces
from bootc_live.system.system_call import libc_call

_NAMESPACES = namespaces.NEWNS | namespaces.NEWUTS | namespaces.NEWIPC | namespaces.NEWNET | namespaces.NEWCGROUP
_FIRST_FREE = 3
_PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _SYS_RAWIO = 24, 36, 17
_UNSHARE_HINT = (
    "give the container a root that is no chroot and has no other mount on it, and check that "
    "/proc/sys/user/max_user_namespaces and its neighbours are not 0"
)
_INITCTL = "/dev/initctl"


def enter_guest(tree: int, data: dict[str, Any]) -> NoReturn:
    """Make a detached tree of mounts the root of this process, and become the guest's init; raise LandingError."""
    plan = GuestPlan.of(data)
    try:
        _enter(tree, plan)
    except BootcLiveError as error:
        if plan.rescue:
            offer_shell(error, plan.environment)
        raise


def _enter(tree: int, plan: GuestPlan) -> NoReturn:
    with step("root", "attach the root"):
        # The tree is locked as one when a user namespace gets a copy of it: what it hides stays hidden.
        unshare_mounts()
        attach_tree(tree, plan.place)
        os.close(tree)
        os.chdir(plan.place)
    if plan.setup:
        _make_surroundings(_make_namespaces(plan))
    _change_root(plan.mode)
    if plan.initctl:
        serve_beside(_INITCTL)
    run_hooks(plan.hooks, plan.environment)
    reap()
    if plan.users:
        # A user namespace never grants it; systemd would take it for the right to mount what needs it.
        libc_call("prctl", _PR_CAPBSET_DROP, _SYS_RAWIO, 0, 0, 0)
    _become(plan.argv, plan.environment)


def _make_namespaces(plan: GuestPlan) -> int | None:
    """Enter new namespaces, and become their root; return a mount for /sys if only the container may make one."""
    group = _group(plan)
    interfaces = network_interfaces() if has_own_network() else []
    mapped = namespaces.NEWUSER if plan.users else 0
    with helper_outside(plan, interfaces, group) as help_now:
        with step("id_map" if mapped else "setup.mode", "make namespaces (unshare)", _UNSHARE_HINT):
            namespaces.unshare(_NAMESPACES | mapped)
        sys = help_now()
    if mapped:
        with step("id_map", "become root of the guest", "let the container set groups: see /proc/self/setgroups in it"):
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
    with step("setup.mode", "set the network up"):
        # Where the network is the machine's, containers often lack the capability for it, even in a new one.
        with suppress(PermissionError):
            namespaces.raise_loopback()
        restore_interfaces(interfaces)
    return sys


def _group(plan: GuestPlan) -> str | None:
    with step("id_map", "look at the control group"):
        group = cgroup.own_group() if plan.users else None
        shared = group is not None and cgroup.others_in(group, {os.getpid()})
    if shared:
        print_message(f"warning: the control group {group!r} has other processes, too, and is not given to the guest")
        return None
    return group


def _make_surroundings(made: int | None) -> None:
    """Mount in the root, which is the working directory, what belongs to the new namespaces."""
    with step("setup.mode", "mount /sys"):
        sys = place_below(".", "sys")
        if made is None:
            _make_sys(sys)
        else:
            attach_tree(made, sys)
            os.close(made)
        make_cgroups(sys)
    with step("setup.mode", "mount /dev"):
        make_device_file_systems(place_below(".", "dev"))
    with step("setup.mode", "mount /run"):
        make_run(place_below(".", "run"))


def _make_sys(sys: str) -> None:
    try:
        make_sys(sys)
    except PermissionError:
        # In a user namespace whose /sys hides something: then that one, which shows the container's interfaces.
        namespaces.bind_at("/sys", sys)


def _change_root(mode: RootMode) -> None:
    if mode is RootMode.NONE:
        os.chdir("/")
        return
    with step("root.mode", f"change the root ({mode})"):
        if mode is RootMode.CHROOT:
            os.chroot(".")
            os.chdir("/")
            return
        # A mount that is locked to others cannot become the root; a copy of it can.
        top = mount_tree(".")
        attach_tree(top, ".")
        os.fchdir(top)
        os.close(top)
        namespaces.pivot_into(".")


def _become(argv: tuple[str, ...], environment: Mapping[str, str]) -> NoReturn:
    for number in (*STOPPING_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    libc_call("prctl", _PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    # One that leads out of the root would be a way out for the guest.
    os.closerange(_FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
    with step("exec.command", f"start {argv[0]!r}", "check that the root has it, and what runs it"):
        try:
            os.execvpe(argv[0], argv, environment)  # noqa: S606
        except PermissionError:
            command = command_for(argv[0], argv[1:])
            os.execvpe(command[0], command, environment)  # noqa: S606
