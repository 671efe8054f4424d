"""The first process of a machine, between an init that ends and a program that is no init, or another kind of init.

It starts in a small root of its own, with Python, and goes on in the image's root. All modules are loaded before that.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.first.places import clear_run, switch_root
from bootc_live.landing.pivot.first.settings import FILE, FirstSettings, OnExit
from bootc_live.landing.pivot.first.start import start
from bootc_live.landing.pivot.first.supervisor import own_session, supervise
from bootc_live.landing.pivot.network import Interface
from bootc_live.landing.pivot.program import SEARCH_PATH, Program
from bootc_live.landing.pivot.takeover.processes import end_processes
from bootc_live.landing.pivot.units import CONFIRMED
from bootc_live.system.files import write_all
from bootc_live.system.mounts import unmount, unmount_disks
from bootc_live.system.namespaces import make_private
from bootc_live.system.network.interfaces import add_address, add_route, set_up
from bootc_live.system.system_call import libc_call

# Where the small root has the image's.
IMAGE = "/image"
# Only asks whether everything is there that it needs.
CHECK = "--check"
STATUS = "/run/bootc-live/exit-status"
_PIVOTED = "/run/bootc-live/pivoted"
_RESTART, _POWER_OFF = 0x01234567, 0x4321FEDC
_MANY = 1 << 20
# A program with descriptors for input, output and errors.
_STANDARD = (0, 1, 2)


def main() -> NoReturn:
    """Run the program of the root, and do at its end what was asked for; restart the machine after any failure."""
    with open(FILE, encoding="utf-8") as file:
        settings = FirstSettings.parse(file.read())
    if CHECK in sys.argv:
        os._exit(0)
    try:
        # systemd leaves its own open for one of its kind.
        os.closerange(3, _MANY)
        # That of the kernel's first process; systemd's is 0.
        os.umask(0o022)
        make_private("/")
        clear_run()
        directory = os.open(IMAGE, os.O_PATH | os.O_CLOEXEC)
        switch_root(directory)
        unmount(".")
        os.chdir("/")
        _open_console()
        for interface in settings.network:
            _restore(interface)
        if settings.on_exit is None:
            _become(settings.program.path, settings.program.argv)
        _serve(settings, settings.on_exit)
    except Exception as error:  # noqa: BLE001 - nobody else could tell
        _tell(f"the pivot failed, and the machine restarts: {error}")
    finally:
        stop(_RESTART)


def _serve(settings: FirstSettings, on_exit: OnExit) -> None:
    """Run the program, and do what follows its end; return if the machine has to restart."""
    signal.alarm(settings.rollback_after or 0)
    name = settings.program.argv[0]
    status = supervise(partial(start, _with_terminal(settings.program)), own_session, _roll_back)
    # The end of a session hangs up its terminal.
    _open_console()
    with suppress(OSError), open(STATUS, "w", encoding="utf-8") as file:
        file.write(f"{status}\n")
    if on_exit is OnExit.SHELL and settings.shell is not None:
        _tell(f"{name!r} has ended with {status}; when this shell ends, the machine restarts")
        supervise(partial(start, _with_terminal(settings.shell)), own_session, _roll_back)
    elif on_exit is OnExit.POWEROFF:
        _tell(f"{name!r} has ended with {status}, and the machine powers off")
        stop(_POWER_OFF)
    elif on_exit is OnExit.RETURN and settings.old_root is not None:
        _tell(f"{name!r} has ended with {status}, and the old system starts again")
        _go_back(settings.old_root, settings.old_init)
    else:
        _tell(f"{name!r} has ended with {status}, and the machine restarts")


def _roll_back() -> None:
    if not os.path.exists(CONFIRMED):
        _tell("nobody has confirmed the pivot, and the machine restarts")
        stop(_RESTART)


def _go_back(old_root: str, old_init: str) -> NoReturn:
    """Make the old root the root again, and start its init; raise OSError, LandingError."""
    signal.alarm(0)
    end_processes()
    clear_run()
    for left in (_PIVOTED, CONFIRMED):
        with suppress(FileNotFoundError):
            os.unlink(left)
    switch_root(os.open(old_root, os.O_PATH | os.O_CLOEXEC))
    unmount(".")
    os.chdir("/")
    _become(old_init, [old_init])


def _become(path: str, argv: tuple[str, ...] | list[str]) -> NoReturn:
    """Run an init in place of this process, as the kernel does; raise OSError."""
    container = {name: text for name, text in os.environ.items() if name == "container"}
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(path, argv, {"HOME": "/", "TERM": "linux", "PATH": SEARCH_PATH, **container})  # noqa: S606


def _with_terminal(program: Program) -> Program:
    return replace(program, environment={"TERM": "linux", **program.environment})


def _restore(interface: Interface) -> None:
    """Set addresses and routes again: what stopped the old system may have removed some."""
    with suppress(OSError):
        set_up(interface.name)
        for address in interface.addresses:
            with suppress(OSError):
                add_address(interface.name, address)
        for route in interface.routes:
            with suppress(OSError):
                add_route(interface.name, route.destination, route.gateway, route.metric)


def _open_console() -> None:
    console = -1
    for path in ("/dev/console", "/dev/null"):
        with suppress(OSError):
            console = os.open(path, os.O_RDWR | os.O_NOCTTY)
            break
    for number in _STANDARD:
        if console not in (-1, number):
            os.dup2(console, number)
    if console not in _STANDARD:
        os.close(console)


def _tell(message: str) -> None:
    with suppress(OSError):
        write_all(1, f"bootc-live: {message}\r\n".encode())


def stop(how: int) -> NoReturn:
    """End everything, leave disks as they should be, and restart or power off."""
    with suppress(LandingError, OSError):
        end_processes()
    os.sync()
    with suppress(OSError):
        unmount_disks()
    with suppress(OSError):
        libc_call("reboot", how)
    os._exit(1)
