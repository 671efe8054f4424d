"""A machine goes on in a root without systemd: in one whose program is no init, or is another one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.vm.conftest import Stage
from tests.vm.inside import connect, mounts
from tests.vm.kinds import obstacle
from tests.vm.test_pivot import SECONDS, UNSECURE, arrive, booted, guest, image, source
from tests.vm.test_takeover import ROWS, STAYS, Init, machine, own_files, tree
from vmkit.base import BaseGuest
from vmkit.namespaces import NamespaceGuest
from vmkit.paths import ZIPAPP

__all__ = ["guest", "image", "tree"]

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")

# Reachable by ssh, like a rescue system; asked to end, it ends with 7. Its orphan is somebody's to reap.
SCRIPT = """\
#!/bin/sh
mkdir -p /run/sshd /run/ssh-host
[ -e /run/ssh-host/ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /run/ssh-host/ed25519_key
sh -c 'sleep 0.1 &'
trap 'exit 7' TERM
echo "started in $(pwd) by $PPID with $*"
/usr/sbin/sshd -D &
wait
"""
RESCUE = "--entrypoint /opt/rescue --command one two"


PUT = (
    "mkdir -p /root/rescue/opt && cat >/root/rescue/opt/rescue <<'END'\n{script}END\nchmod 755 /root/rescue/opt/rescue"
)
ORPHANS = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z ' || true"


def put_script(guest: BaseGuest) -> None:
    connect(guest).check_output(PUT.format(script=SCRIPT))


def ask_to_end(host: Host) -> None:
    """By the first process, which passes it on; the connection may end before the answer."""
    with suppress(RuntimeError):
        host.run("kill -TERM 1")


def test_returns_to_the_old_root(guest: BaseGuest, stage: Stage) -> None:
    """By a soft reboot; the program gets what the first process is asked, and the old system starts again."""
    put_script(guest)
    host = connect(guest)
    host.check_output("echo before >/etc/before")
    before = {command: host.check_output(command) for command in STAYS[:-1]}
    words = f"{source(stage, 'foreign')} /root/rescue {UNSECURE} --keep-old-root --on-exit return --rollback-after 1h"
    told = host.run(f"bootc-live pivot {words} {RESCUE}")
    assert told.rc == 0, told.stderr
    assert "at its end the init of the old root starts again" in told.stderr
    after = arrive(guest, "/etc/foreign", booted)
    assert "/main.py" not in after.check_output("tr '\\0' ' ' </proc/1/cmdline")
    assert after.check_output("cat /proc/$(pgrep --oldest rescue)/status | grep PPid").split() == ["PPid:", "1"]
    assert "started in / by 1 with one two" in guest.console()
    assert {command: after.check_output(command) for command in STAYS[:-1]} == before
    table = mounts(after)
    assert {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run"} <= set(table)
    assert [target for target in table if target.endswith("/mnt/oldroot")]
    assert not [target for target in table if "image" in target or "nextroot" in target]
    assert not after.file("/run/systemd").exists
    assert after.check_output(ORPHANS) == "0"
    assert json.loads(after.check_output("cat /run/bootc-live/receipt.json"))["landing"]["way"] == "soft-reboot"
    ask_to_end(after)
    back = arrive(guest, "/etc/before")
    assert back.check_output("cat /run/bootc-live/exit-status") == "7"
    assert back.check_output("systemctl is-system-running") == "running"
    assert back.check_output("readlink /proc/1/exe") == "/usr/lib/systemd/systemd"
    assert not back.file("/etc/foreign").exists
    assert not back.file("/run/bootc-live/pivoted").exists
    assert {command: back.check_output(command) for command in STAYS[:-1]} == before
    assert not [target for target in mounts(back) if "oldroot" in target]


ENDS = (
    (ROWS[0], "--on-exit poweroff", "powers off"),
    (ROWS[2], "", "restarts"),
    (ROWS[2], "--rollback-after 5s", ""),
)


@pytest.mark.parametrize(("init", "words", "end"), ENDS, ids=["poweroff", "reboot", "rollback"])
def test_end_of_the_machine(init: Init, words: str, end: str, tree: Path, stage: Stage) -> None:
    """After a takeover; what was asked for, and what follows by default."""
    with machine(init, tree, stage) as old:
        put_script(old)
        with pytest.raises(RuntimeError):
            connect(old).run(f"bootc-live pivot {source(stage, 'foreign')} /root/rescue {UNSECURE} {words} {RESCUE}")
        if "rollback" in words:
            old.wait_exit(SECONDS)
            assert "nobody has confirmed the pivot, and the machine restarts" in old.console()
            return
        after = arrive(old, "/etc/foreign", booted)
        assert after.check_output("readlink /proc/$(pgrep --oldest rescue)/exe") == "/usr/bin/dash"
        assert after.check_output(ORPHANS) == "0"
        ask_to_end(after)
        old.wait_exit(SECONDS)
        assert f"'/opt/rescue' has ended with 7, and the machine {end}" in old.console()


@pytest.mark.parametrize("init", ROWS, ids=lambda init: init.name)
def test_comes_back(init: Init, tree: Path, stage: Stage) -> None:
    """After a takeover, the init that was there before starts once more, with its services."""
    with machine(init, tree, stage) as old:
        put_script(old)
        host = connect(old)
        host.check_output("echo before >/etc/before")
        words = f"{source(stage, 'foreign')} /root/rescue {UNSECURE} --keep-old-root --on-exit return {RESCUE}"
        with pytest.raises(RuntimeError):
            host.run(f"bootc-live pivot {words}")
        ask_to_end(arrive(old, "/etc/foreign", booted))
        back = arrive(old, "/etc/before", booted)
        assert back.check_output("readlink /proc/1/exe") == f"/usr/sbin/{init.name}"
        assert back.check_output("cat /run/bootc-live/exit-status") == "7"
        assert not back.file("/etc/foreign").exists
        assert not [target for target in mounts(back) if "oldroot" in target]
        assert back.check_output(ORPHANS) == "0"


@pytest.fixture(scope="module")
def sysvinit(tree: Path, stage: Stage) -> Path:
    """An image of Debian with sysvinit."""
    directory = Path(tempfile.mkdtemp(prefix="sysvinit-", dir=stage.directory))
    own = own_files(directory / "own", ROWS[0])
    (own / "etc/new").write_text("new\n")
    made = directory / "sysvinit.oci"
    argv = [sys.executable, str(ZIPAPP), "build", str(tree), str(own), "--output", str(made)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
    return made


@pytest.mark.parametrize("way", ["soft-reboot", pytest.param("takeover", marks=pytest.mark.long)])
def test_another_init_follows(way: str, guest: NamespaceGuest, sysvinit: Path) -> None:
    """Debian's sysvinit, with the services that it starts, after systemd."""
    shutil.copy(sysvinit, f"/proc/{guest.init}/root/var/lib/sysvinit.oci")
    host = connect(guest)
    name = host.check_output("hostname")
    refused = host.run(f"bootc-live pivot --via {way} /var/lib/sysvinit.oci --yes --rollback-after 1h")
    assert "--rollback-after needs systemd" in refused.stderr
    with suppress(RuntimeError):
        host.run(f"bootc-live pivot --via {way} /var/lib/sysvinit.oci --yes")
    after = arrive(guest, "/etc/new", booted)
    assert after.check_output("readlink /proc/1/exe") == "/usr/sbin/init"
    assert after.check_output("tr '\\0' ' ' </proc/1/cmdline").split()[0] in ("/sbin/init", "init")
    assert after.check_output("runlevel") == "N 2"
    assert after.check_output("hostname") in (name, "old")
    assert after.check_output("pgrep --exact sshd | wc -l") != "0"
    assert not after.file("/run/systemd").exists
    assert after.check_output("find /proc/[0-9]*/exe -lname '*systemd*' 2>/dev/null || true") == ""
