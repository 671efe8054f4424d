"""Guests in namespaces: what they may not do to this machine, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vm.inside import connect
from tests.vm.kinds import obstacle
from tests.vm.rows import FAILING
from vmkit import cgroup
from vmkit.namespaces import NamespaceGuest
from vmkit.paths import OUT, VM
from vmkit.start import Kernel

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")

SECONDS = 180
EMBEDDED = Kernel(initrds=[OUT / "initrd-embedded.img"], append=f"root=bootc-live:/root.oci {FAILING}")

# Each of them would change this machine.
FORBIDDEN = (
    "date --set=2001-01-01",
    "mknod /run/disk b 254 0",
    "sh -c 'echo 1 >/proc/sys/kernel/panic'",
    "sh -c 'echo add >/sys/class/net/lo/uevent'",
)
KEXEC = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
for call in (246, 320):
    assert libc.syscall(call, -1, -1, 0, 0, 0) == -1
    assert ctypes.get_errno() == errno.EPERM
"""
OWNER = """
import sys, time
from pathlib import Path
from vmkit.namespaces import NamespaceGuest
from vmkit.start import Kernel

with NamespaceGuest(Kernel(initrds=[Path(sys.argv[1])], append="rd.break rd.shell=0")) as guest:
    guest.wait_console("systemd", 180)
    print(guest.init, flush=True)
    time.sleep(600)
"""


def test_guest_is_shut_in_and_nothing_of_it_stays() -> None:
    own = {path.name for path in _cgroups()}
    with NamespaceGuest(EMBEDDED, credentials={"some.name": b"a secret"}) as guest:
        ready = guest.wait_ready(SECONDS)
        host = connect(guest, lasting=True)
        assert (ready.target, ready.failed) == ("multi-user.target", 0)
        assert host.file("/proc/cmdline").content_string.strip().endswith(EMBEDDED.append)
        assert host.file("/run/credentials/@system/some.name").content == b"a secret"
        for command in FORBIDDEN:
            assert host.run(command).rc != 0, command
        loop = host.check_output("losetup --noheadings --output NAME,BACK-MAJ:MIN,BACK-INO $(findmnt -no SOURCE /)")
        init = guest.init
        guest.powerdown()
        guest.wait_exit(SECONDS)
        assert "Powering off" in guest.console()
    assert not Path("/proc", str(init)).exists()
    listed = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-MAJ:MIN,BACK-INO"]
    _soon(lambda: loop.split() not in [line.split() for line in _output(*listed)])
    assert not [path for path in _cgroups() if path.name not in own and f"-{os.getpid()}-" in path.name]


def test_guest_cannot_load_another_kernel() -> None:
    subprocess.run([sys.executable, VM / "vmkit/nokexec.py", sys.executable, "-c", KEXEC], check=True)


def test_guest_does_not_outlive_its_owner() -> None:
    argv = [sys.executable, "-c", OWNER, str(OUT / "initrd.img")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(VM)}) as owner:
        assert owner.stdout
        init = Path("/proc", owner.stdout.readline().strip())
        assert init.exists()
        owner.send_signal(signal.SIGKILL)
    _soon(lambda: not init.exists())
    # What cannot be removed by a process that was killed, the next guest removes.
    cgroup.remove(cgroup.make())
    assert not [path for path in _cgroups() if f"-{owner.pid}-" in path.name]


def _cgroups() -> list[Path]:
    return [*cgroup.parent().glob("vm-guest-*")]


def _output(*argv: str) -> list[str]:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def _soon(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
