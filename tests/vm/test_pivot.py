"""A running machine goes on in another image: over ssh, without a reboot, and nothing of the old system stays.

The machine was booted from RAM, in namespaces; its image has Python and bootc-live, the one that follows has not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.vm.builder import in_builder
from tests.vm.conftest import Stage, pack
from tests.vm.inside import connect, mounts
from tests.vm.kinds import obstacle
from tests.vm.rows import FAILING
from vmkit.base import BaseGuest
from vmkit.namespaces import NamespaceGuest
from vmkit.paths import OUT, ZIPAPP
from vmkit.start import Kernel

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")

SECONDS = 240
UNSECURE = "--unsecure --yes"


@pytest.fixture(scope="module")
def machine(stage: Stage) -> Path:
    """An archive for the initrd of a machine that can pivot."""
    directory = stage.directory / "pivot"
    (directory / "own/usr/local/bin").mkdir(parents=True)
    program = directory / "own/usr/local/bin/bootc-live"
    program.write_bytes(ZIPAPP.read_bytes())
    program.chmod(0o755)
    in_builder("vm/pivot/layer", directory / "python.tar")
    sources = [OUT / "live.oci", directory / "python.tar", directory / "own"]
    image = directory / "root.oci"
    argv = [sys.executable, str(ZIPAPP), "build", *map(str, sources), "--output", str(image)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
    pack(directory, "machine.cpio", "root.oci", image)
    return directory / "machine.cpio"


@pytest.fixture
def guest(machine: Path) -> Iterator[BaseGuest]:
    """The machine, running."""
    start = Kernel(initrds=[OUT / "initrd.img", machine], append=f"root=bootc-live:/root.oci rw {FAILING}")
    with NamespaceGuest(start) as running:
        ready = running.wait_ready(SECONDS)
        assert (ready.target, ready.failed) == ("multi-user.target", 0)
        yield running


def source(stage: Stage, tag: str) -> str:
    return f"docker://{stage.http}/os/live:{tag}"


def arrive(guest: BaseGuest, file: str) -> Host:
    """The machine as soon as it answers from a root that has a file."""
    deadline = time.monotonic() + SECONDS
    while True:
        host = connect(guest)
        try:
            if host.run_test("test -e %s", file).rc == 0 and _running(host):
                return host
        except RuntimeError:
            # It has just let go of the connection.
            pass
        assert time.monotonic() < deadline, guest.console()[-3000:]
        time.sleep(0.2)


def _running(host: Host) -> bool:
    return host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")


def loops(host: Host) -> list[str]:
    """The image files behind the loop devices of the machine's own root."""
    return str(host.check_output("losetup --noheadings --output BACK-INO,BACK-MAJ:MIN")).splitlines()


def state(host: Host) -> list[str]:
    """What a pivot that is refused leaves as it was: services, mounts, processes, files below /run."""
    return [
        host.check_output("systemctl show --property=Id,ActiveEnterTimestampMonotonic,ActiveState '*.service' | sort"),
        host.check_output("findmnt --list --noheadings --output TARGET,SOURCE | sort"),
        host.check_output("find /run -xdev ! -path '/run/systemd/*' ! -path '/run/log/*' ! -path '/run/user*' | sort"),
    ]


def test_pivot_over_ssh(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest)
    host.check_output("echo before >/etc/before")
    before = {command: host.check_output(command) for command in STAYS}
    held = loops(host)
    told = host.run(f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE}")
    assert told.rc == 0, told.stderr
    after = arrive(guest, "/etc/foreign")
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
    assert not after.file("/etc/before").exists
    assert {command: after.check_output(command) for command in STAYS} == before
    assert "--switched-root" in after.check_output("tr '\\0' ' ' </proc/1/cmdline")
    # The image that the machine was booted from is no longer held by anybody.
    assert not set(loops(after)) & set(held)
    table = mounts(after)
    assert {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run"} <= set(table)
    assert not [target for target in table if "oldroot" in target or "nextroot" in target]
    receipt = json.loads(after.check_output("cat /run/bootc-live/receipt.json"))
    assert receipt["landing"]["way"] == "soft-reboot"
    assert receipt["image"]["manifest_digest"] == stage.digests["foreign"]
    assert receipt["policy"]["digests"] == "verified"
    # It does not know that image: no program of the old root runs.
    assert after.check_output("find /proc/[0-9]*/exe -lname '*(deleted)' 2>/dev/null || true") == ""


STAYS = (
    "hostname",
    "uname -r",
    "cat /etc/machine-id",
    "ip -brief address show dev eth0",
    "ip route show default | sed 's/ metric.*//'",
    "cat /run/ssh-host/ed25519_key.pub",
)


def test_old_root_is_shown_where_that_is_asked_for(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest)
    host.check_output("echo before >/etc/before && mkdir /root/own && echo last >/root/own/last")
    held = loops(host)
    told = host.run(f"bootc-live pivot {source(stage, 'foreign')} /root/own {UNSECURE} --keep-old-root")
    assert told.rc == 0, told.stderr
    after = arrive(guest, "/etc/foreign")
    assert after.check_output("cat /last /mnt/oldroot/etc/before") == "last\nbefore"
    assert after.file("/mnt/oldroot/usr/local/bin/bootc-live").exists
    assert set(held) < set(loops(after))
    # Let go later, all the same.
    after.check_output("umount --recursive /mnt/oldroot")
    assert not set(loops(after)) & set(held)


REFUSED = (
    ("{foreign} --entrypoint /no/such/program", "has no program '/no/such/program'"),
    ("{foreign} --entrypoint sh", "which is no init"),
    ("docker://10.0.2.2:{closed}/os/live:stable --cmdline bootc.live.retry.tries=1", "/os/live:stable"),
    ("docker://{http}/os/live@sha256:" + "0" * 64, "sha256:" + "0" * 64),
    ("docker://{damaged}/os/live:stable", "it must be sha256:"),
    ("{foreign} --cmdline bootc.live.size=8M", "does not fit into memory"),
    ("{foreign} --key /etc/ssh/sshd_config", "/etc/ssh/sshd_config"),
    ("/usr/share", "has no init"),
    ("{foreign} --via kexec", "invalid choice"),
)


def test_what_is_refused_changes_nothing(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest)
    before = state(host)
    names = {"foreign": source(stage, "foreign"), "http": stage.http, "damaged": stage.damaged, "closed": stage.closed}
    for words, said in REFUSED:
        ended = host.run(f"bootc-live pivot {words.format(**names)} {UNSECURE}")
        assert ended.rc in (1, 2), words
        assert said in ended.stderr, ended.stderr
    asked = host.run(f"bootc-live pivot {names['foreign']} --unsecure </dev/null")
    assert (asked.rc, "nobody can be asked" in asked.stderr) == (1, True)
    planned = host.run(f"bootc-live pivot {names['foreign']} --unsecure --dry-run --json")
    assert json.loads(planned.stdout)["manifest_digest"] == stage.digests["foreign"]
    assert state(host) == before


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL"])
def test_ended_before_the_switch(name: str, guest: BaseGuest, stage: Stage) -> None:
    """While it waits for a registry that accepts and says nothing, and while it waits for an answer to its question."""
    host = connect(guest)
    before = state(host)
    silent = f"docker://{stage.places['silent'].host}/os/live:stable --unsecure --yes"
    asking = f"{source(stage, 'foreign')} --unsecure"
    for words in (silent, asking):
        argv = f"timeout --signal={name} 3 script --quiet --return --command 'exec bootc-live pivot {words}' /dev/null"
        ended = host.run(argv)
        assert ended.rc != 0, ended.stdout
    deadline = time.monotonic() + SECONDS
    while state(host) != before:
        # The kernel takes mounts with the process that held their namespace.
        assert time.monotonic() < deadline, (state(host), before)
        time.sleep(0.2)
