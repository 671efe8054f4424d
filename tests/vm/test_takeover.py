"""A machine without systemd goes on in another image: its first process, whatever it is, becomes systemd.

One tree has three inits; each row starts one of them, with a service that tells how it was stopped.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.vm.conftest import Stage
from tests.vm.inside import connect
from tests.vm.kinds import obstacle
from tests.vm.test_pivot import UNSECURE, arrive, source
from vmkit.namespaces import Installed, NamespaceGuest
from vmkit.paths import OUT, ROOTS, VM, ZIPAPP
from vmkit.start import Kernel

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
exec /usr/sbin/sshd
"""


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
            "etc/inittab": "id:2:initdefault:\nsi::sysinit:/opt/up\nno:2:respawn:/usr/bin/sleep infinity\n",
            "etc/rc1.d/K01told": f'#!/bin/sh\n[ "$1" = stop ] && {TELL}\n',
        },
    ),
    Init(
        "/usr/sbin/openrc-init",
        "openrc-init",
        {
            "etc/init.d/told": f"#!/usr/sbin/openrc-run\nstart() {{ /opt/up; }}\nstop() {{ {TELL}; }}\n",
        },
    ),
    Init(
        "/usr/sbin/runit-init",
        "runit",
        {
            "etc/runit/1": "#!/bin/sh\nexec /opt/up\n",
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
    program = directory / "usr/local/bin/bootc-live"
    program.parent.mkdir(parents=True)
    program.write_bytes(ZIPAPP.read_bytes())
    program.chmod(0o755)
    if init.name == "openrc-init":
        (directory / "etc/runlevels/default").mkdir(parents=True)
        (directory / "etc/runlevels/default/told").symlink_to("/etc/init.d/told")
    return directory


@pytest.mark.parametrize("init", ROWS, ids=lambda init: init.name)
def test_takeover(init: Init, tree: Path, stage: Stage) -> None:
    own = stage.directory / f"takeover-{init.name}"
    own.mkdir()
    installed = Installed((own_files(own, init), tree), init.path)
    with NamespaceGuest(Kernel(initrds=[]), installed=installed) as guest:
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
