"""A machine without systemd goes on in another image: its first process, whatever it is, becomes systemd.

One tree has three inits; each row starts one of them, with a service that tells how it was stopped. OpenRC starts what
Debian wants to be started, on its own and below sysvinit.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.vm.builder import put_program
from tests.vm.conftest import Stage
from tests.vm.inside import connect
from tests.vm.kinds import obstacle
from tests.vm.test_pivot import UNSECURE, arrive, guest, image, source
from vmkit.base import BaseGuest
from vmkit.namespaces import Installed, NamespaceGuest
from vmkit.paths import OUT, ROOTS, VM
from vmkit.start import Kernel

__all__ = ["guest", "image"]

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")

TOLD: Final = "/run/bootc-live/told"
TELL: Final = f"echo stopped >{TOLD}"
UP: Final = """\
#!/bin/sh
mkdir -p /run/sshd /run/bootc-live
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
"""
OPENRC: Final = f"#!/usr/sbin/openrc-run\nstart() {{ /opt/up; }}\nstop() {{ {TELL}; }}\n"
SSH: Final = "exec /usr/sbin/sshd\n"


@dataclass(frozen=True)
class Init:
    """An init by its path, its name as a process, and the files by which it starts the network and a service."""

    path: str
    name: str
    files: Mapping[str, str]


ROWS: Final = (
    Init(
        "/usr/sbin/init",
        "init",
        {
            "etc/init.d/told": OPENRC,
        },
    ),
    Init(
        "/usr/sbin/openrc-init",
        "openrc-init",
        {
            "etc/init.d/told": OPENRC,
        },
    ),
    Init(
        "/usr/sbin/runit-init",
        "runit",
        {
            "etc/runit/1": UP + SSH,
            "etc/runit/2": "#!/bin/sh\nexec runsvdir -P /etc/service\n",
            "etc/service/told/run": "#!/bin/sh\nexec sleep infinity\n",
            # Only for a service that is asked to stop, not for one that is killed.
            "etc/service/told/control/d": f"#!/bin/sh\n{TELL}\n",
        },
    ),
)


@pytest.fixture(scope="module")
def tree() -> Path:
    """The tree that all inits are in."""
    subprocess.run([VM / "enter", "inits", "true"], stdin=subprocess.DEVNULL, check=True)
    return ROOTS / "inits"


def own_files(directory: Path, init: Init) -> Path:
    """Return a tree of what a machine has beside the inits."""
    files = {"opt/up": UP, "etc/hostname": "old\n", **init.files}
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    (directory / "root/.ssh").mkdir(parents=True)
    (directory / "root/.ssh/authorized_keys").write_bytes((OUT / "id_ed25519.pub").read_bytes())
    # What of the program goes on as the first process depends on that.
    put_program(directory, compiled=init.name != "runit")
    if "etc/init.d/told" in init.files:
        (directory / "etc/runlevels/default").mkdir(parents=True)
        (directory / "etc/runlevels/default/told").symlink_to("/etc/init.d/told")
    return directory


@contextmanager
def machine(init: Init, tree: Path, stage: Stage) -> Iterator[NamespaceGuest]:
    """A machine that one of the inits has started."""
    own = Path(tempfile.mkdtemp(prefix="installed-", dir=stage.directory))
    own.chmod(0o755)
    installed = Installed((own_files(own, init), tree), init.path)
    with NamespaceGuest(Kernel(initrds=[]), installed=installed) as guest:
        yield guest


# Each is taken over in test_pivot_programs.py, too.
@pytest.mark.parametrize(
    "init", [ROWS[0], *(pytest.param(row, marks=pytest.mark.long) for row in ROWS[1:])], ids=lambda init: init.name
)
def test_takeover(init: Init, tree: Path, stage: Stage) -> None:
    with machine(init, tree, stage) as guest:
        mounts = Path(f"/proc/{guest.init}/mountinfo")
        host = connect(guest)
        assert str(tree) in mounts.read_text()
        assert host.check_output("readlink /proc/1/exe") == f"/usr/sbin/{init.name}"
        before = {command: host.check_output(command) for command in STAYS}
        planned = host.run(f"bootc-live pivot {source(stage, 'foreign')} --unsecure --dry-run")
        assert f"way       takeover of {init.name}, the first process" in planned.stderr
        # It was stopped for a moment, and nothing else.
        assert host.check_output("awk '/^State|^TracerPid/ { print $2 }' /proc/1/status").split() == ["S", "0"]
        assert not host.file(TOLD).exists
        with pytest.raises(RuntimeError):
            host.run(f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE}")
        after = arrive(guest, "/etc/foreign")
        assert after.check_output("systemctl is-system-running") == "running"
        assert after.check_output("readlink /proc/1/exe") == "/usr/lib/systemd/systemd"
        assert {command: after.check_output(command) for command in STAYS} == before
        assert after.check_output(f"cat {TOLD}") == "stopped"
        assert after.file("/run/bootc-live/pivoted").exists
        # Nothing of the old root is mounted, and no program of it runs.
        assert str(tree) not in mounts.read_text()
        assert after.check_output("find /proc/[0-9]*/exe -lname '*(deleted)' 2>/dev/null || true") == ""
        receipt = json.loads(after.check_output("cat /run/bootc-live/receipt.json"))
        assert receipt["landing"]["way"] == "takeover"
        assert receipt["image"]["manifest_digest"] == stage.digests["foreign"]


STAYS: Final = (
    "uname -r",
    "ip -brief address show dev eth0 | awk '{ print $1, $2, $3 }'",
    "ip route show default | awk '{ print $3, $5 }'",
    "cat /etc/ssh/ssh_host_ed25519_key.pub",
)


# A service that, when it stops, lets somebody else trace the first process; and one that has a watchdog open there.
TRACE: Final = """\
import ctypes, os, signal
seized = ctypes.CDLL(None).ptrace(0x4206, 1, None, None)
os.write(1, f"seized {seized}".encode())
open("/run/bootc-live/traced", "w").close()
signal.pause()
"""
TOLD_SCRIPT: Final = f"""\
#!/bin/sh
echo "$1" >>{TOLD}
[ "$1" = stop ] && [ -e /run/bootc-live/trace ] || exit 0
setsid python3 -c '{TRACE}' >/dev/null 2>&1 &
until [ -e /run/bootc-live/traced ]; do sleep 0.1; done
"""
FEEDING: Final = Init(
    "/opt/init",
    "init",
    {
        "opt/init": "#!/bin/sh\nexec 9<>/dev/watchdog\nexec /usr/sbin/init\n",
        "opt/up": UP + SSH,
        "etc/inittab": "id:2:initdefault:\nsi::sysinit:/opt/up\nno:2:respawn:/usr/bin/sleep infinity\n",
        "etc/rc1.d/K01told": TOLD_SCRIPT,
        "etc/rc2.d/S01told": TOLD_SCRIPT,
    },
)


def test_fault_after_services_have_stopped(tree: Path, stage: Stage) -> None:
    """They start again, and all goes on; a second try succeeds, and a watchdog does not reset the machine after it."""
    words = f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE}"
    with machine(FEEDING, tree, stage) as guest:
        host = connect(guest)
        assert host.check_output("readlink /proc/1/fd/9") == "/dev/watchdog"
        host.check_output("touch /run/bootc-live/trace")
        refused = host.run(words)
        assert refused.rc == 1
        assert "the first process cannot be traced" in refused.stderr
        assert host.check_output(f"cat {TOLD}").split() == ["stop", "start"]
        assert not host.file("/run/bootc-live/receipt.json").exists
        assert host.check_output("cat /dev/watchdog") == ""
        host.check_output("rm /run/bootc-live/trace && pkill -f ptrace")
        with pytest.raises(RuntimeError):
            host.run(words)
        after = arrive(guest, "/etc/foreign")
        assert after.check_output(f"cat {TOLD}").split() == ["stop", "start", "stop"]
        assert after.check_output("cat /dev/watchdog") == "V"
        assert "/dev/watchdog" not in after.check_output("ls -l /proc/1/fd")


def test_services_of_systemd_stop(guest: BaseGuest, stage: Stage) -> None:
    """As where systemd has no soft reboot."""
    host = connect(guest)
    unit = f"[Service]\nExecStart=sleep infinity\nExecStop=sh -c '{TELL}'\n"
    host.check_output("printf %s >/etc/systemd/system/told.service && systemctl start told.service", unit)
    with pytest.raises(RuntimeError):
        host.run(f"bootc-live pivot --via takeover {source(stage, 'foreign')} {UNSECURE}")
    after = arrive(guest, "/etc/foreign")
    assert after.check_output("systemctl is-system-running") == "running"
    assert after.check_output(f"cat {TOLD}") == "stopped"
