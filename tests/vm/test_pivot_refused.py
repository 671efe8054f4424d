"""A pivot that is refused, or ended before its last step, leaves the machine as it was."""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, layer
from tests.unit.test_pivot_program import MACHINES, elf
from tests.vm.conftest import Stage
from tests.vm.inside import connect
from tests.vm.kinds import obstacle
from tests.vm.test_pivot import SECONDS, UNSECURE, booted_from_ram, image, source
from vmkit.base import BaseGuest
from vmkit.namespaces import NamespaceGuest

__all__ = ["image"]

pytestmark = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")


@pytest.fixture(scope="module")
def guest(image: Path) -> Iterator[BaseGuest]:
    """A machine for all of them: each one leaves it as it was."""
    with booted_from_ram(image) as running:
        yield running


def state(host: Host) -> list[str]:
    """What a pivot that is refused leaves as it was: services, mounts, processes, files below /run."""
    commands = (
        "systemctl list-units --type=service --state=running --no-legend --plain | cut -d ' ' -f 1",
        "systemctl show --property=MainPID ssh.service systemd-networkd.service dbus.service",
        "findmnt --list --noheadings --output TARGET,SOURCE",
        "find /run -xdev ! -path '/run/systemd/*' ! -path '/run/log/*' ! -path '/run/user*' ! -name agetty.reload",
        "ps -e --no-headers -o args | grep -e bootc-live -e nobody | grep -v grep || true",
    )
    return str(host.check_output("\n".join(commands))).splitlines()


REFUSED = (
    ("{foreign} --entrypoint /no/such/program", "has no program '/no/such/program'"),
    ("{foreign} --on-exit shell", "--on-exit is for programs that are no init"),
    ("docker://10.0.2.2:{closed}/os/live:stable --cmdline bootc.live.retry.tries=1", "/os/live:stable"),
    ("docker://{http}/os/live@sha256:" + "0" * 64, "sha256:" + "0" * 64),
    ("docker://{damaged}/os/live:stable", "it must be sha256:"),
    ("{foreign} --cmdline bootc.live.size=8M", "does not fit into memory"),
    ("{foreign} --key /etc/ssh/sshd_config", "/etc/ssh/sshd_config"),
    ("/usr/share", "has no init"),
    ("{foreign} /root/masked --headless --detached", "nothing starts its ssh server"),
    ("{foreign} --via kexec", "this kernel has no kexec"),
    ("{foreign} --via magic", "invalid choice"),
    ("{foreign} --rollback-after soon", "--rollback-after soon"),
)


def test_what_is_refused_changes_nothing(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest, lasting=True)
    units = "/root/masked/etc/systemd/system"
    host.check_output(f"mkdir -p {units} && ln -s /dev/null {units}/ssh.service")
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


@pytest.mark.parametrize("name", [pytest.param("INT", marks=pytest.mark.long), "TERM", "KILL"])
def test_ended_before_the_switch(name: str, guest: BaseGuest, stage: Stage) -> None:
    """While it waits for a registry that accepts and says nothing, and while it waits for an answer to its question."""
    host = connect(guest, lasting=True)
    before = state(host)
    silent = f"docker://{stage.places['silent'].host}/os/live:stable --unsecure --yes"
    asking = f"{source(stage, 'foreign')} --unsecure"
    for words in (silent, asking):
        argv = f"script --quiet --return --command 'exec bootc-live pivot {words}' /dev/null"
        ended = host.run(f"timeout --signal={name} 3 {argv}; echo status $?")
        assert "status 0" not in ended.stdout, ended.stdout
    deadline = time.monotonic() + SECONDS
    while changed := set(state(host)) ^ set(before):
        # The kernel takes mounts with the process that held their namespace.
        assert time.monotonic() < deadline, changed
        time.sleep(0.2)


# What a person does at a certain message; without one, what is in place of systemctl does it.
SEND = """
import subprocess, sys
message, number, *argv = sys.argv[1:]
with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
    told = []
    for line in process.stderr:
        told.append(line)
        if message and message in line:
            process.send_signal(int(number))
print(process.returncode, *told)
"""
# It refuses, so that nothing here depends on who is faster.
REFUSING = """\
#!/bin/sh
[ "$1" = soft-reboot ] || exec /usr/bin/systemctl "$@"
touch /var/tried
[ ! -s /var/signal ] || kill -s "$(cat /var/signal)" "$PPID"
sleep 0.2
exit 1
"""
MESSAGES = ("image sha256", "fetching and verifying", "writing the root's index", "mounting the root", "")


def test_signals_in_every_phase(guest: NamespaceGuest) -> None:
    """They leave the machine as it was, also in the last step, while systemd has not agreed."""
    host = connect(guest, lasting=True)
    init = layer(
        directory("etc/"), directory("sbin/"), file("sbin/init", elf(MACHINES[platform.machine()]), mode=0o755)
    )
    write_archive(Path(f"/proc/{guest.init}/root/var/tiny.oci"), Image([Layer(init)], architecture=HERE))
    host.check_output("mkdir /var/sbin && printf %s >/var/sbin/systemctl && chmod 755 /var/sbin/systemctl", REFUSING)
    host.check_output("mount --bind /var/sbin /usr/local/sbin && printf %s >/var/send", SEND)
    before = state(host)
    argv = "bootc-live pivot /var/tiny.oci --yes --no-cache"
    for message, signal in zip((*MESSAGES, ""), itertools.cycle((2, 15)), strict=False):
        host.check_output(f"rm -f /var/tried && echo '{'' if message else signal}' >/var/signal")
        told = host.check_output(f"python3 /var/send '%s' {signal} {argv}" % message.replace("'", "'\\''"))
        assert told.startswith("1 "), (message, told)
        assert "interrupted" in told or "refuses a soft reboot" in told
        assert host.file("/var/tried").exists or message
        assert state(host) == before, message
    assert "systemd refuses a soft reboot" in host.run(f"rm /var/signal; {argv}").stderr
    assert state(host) == before
