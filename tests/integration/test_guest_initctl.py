"""``guest initctl``: real inits power off and reboot when real programs ask them through the FIFO."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.container import Container, busybox_root, control_group
from tests.lib.needs import strict
from tests.lib.program import ENVIRONMENT, Program

SECONDS = 120
POWER_OFF, REBOOT = "0", "6"
# How the first process of a namespace seems to end (reboot(2)).
ENDS = {POWER_OFF: signal.SIGINT, REBOOT: signal.SIGHUP}
NOTHING = "#!/bin/sh\n"
READY = "/run/ready"
# What it writes first has to be survived.
WRITER = """
import os, struct, sys, time
def ask(data):
    while True:
        try:
            place = os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            time.sleep(0.05)
            continue
        os.write(place, data)
        os.close(place)
        return
request = lambda level: struct.pack("=4i368x", 0x03091969, 1, ord(level), 0)
for data in (b"garbage", b"x" * 4000, request("3"), request("6")[:100], request(sys.argv[2])):
    ask(data)
"""
START = """#!/bin/sh
set -e
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 dev /dev
mkdir /run/openrc /dev/pts /dev/shm
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 /dev/${node%:*} c 1 ${node#*:}; done
: >/dev/console
python3 /program guest initctl --path PATH >/output 2>&1 &
until [ -p PATH ]; do sleep 0.05; done
(until [ -e /run/ready ]; do sleep 0.05; done; exec ASK) &
exec env container=test INIT >/dev/null 2>&1
"""


@dataclass(frozen=True)
class Init:
    """An init: its command, what is said about how it is asked, who asks it, and its files.

    It is in the root ``inits``, or in that of these tests.
    """

    argv: str
    said: Mapping[str, str]
    files: Mapping[str, str]
    telinit: bool = True
    inits: bool = True

    @property
    def path(self) -> str:
        """Where the FIFO is served; telinit knows one place."""
        return "/run/initctl" if self.telinit else "/dev/initctl"


INITS = {
    "systemd": Init(
        "/usr/lib/systemd/systemd --unit=ready.service",
        {POWER_OFF: "power off: SIGRTMIN+4 for systemd", REBOOT: "reboot: SIGRTMIN+5 for systemd"},
        {
            "etc/systemd/system/ready.service": f"[Unit]\nWants=basic.target\nAfter=basic.target\n[Service]\n"
            f"Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/touch {READY}\n"
        },
        telinit=False,
        inits=False,
    ),
    "sysvinit": Init(
        "/sbin/init",
        {POWER_OFF: "power off: passed on to /run/initctl", REBOOT: "reboot: passed on to /run/initctl"},
        {
            "etc/inittab": f"id:2:initdefault:\nrd:2:once:/usr/bin/touch {READY}\n"
            "l0:0:wait:/sbin/halt -d -f -p -n\nl6:6:wait:/sbin/reboot -d -f -n\n"
        },
        telinit=False,
    ),
    "busybox": Init(
        "/usr/bin/busybox init",
        {POWER_OFF: "power off: SIGUSR2 for busybox", REBOOT: "reboot: SIGTERM for busybox"},
        {"etc/inittab": f"::once:/usr/bin/touch {READY}\n"},
        telinit=False,
        inits=False,
    ),
    "openrc": Init(
        "/usr/sbin/openrc-init",
        {POWER_OFF: "power off: SIGTERM for openrc-init", REBOOT: "reboot: SIGINT for openrc-init"},
        {"usr/sbin/openrc": f'#!/bin/sh\n[ "$1" != default ] || touch {READY}\n'},
    ),
    "runit": Init(
        "/usr/sbin/runit",
        {POWER_OFF: "power off: SIGCONT for runit", REBOOT: "reboot: SIGCONT for runit"},
        {
            "etc/runit/1": NOTHING,
            "etc/runit/2": f"#!/bin/sh\ntouch {READY}\nexec sleep 10000\n",
            "etc/runit/3": NOTHING,
        },
    ),
}


def soon(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its messages are part of its output."""
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        timeout=SECONDS,
        check=False,
    )


def answers(output: str) -> list[str]:
    """How an init was asked; who asks it says so before it can be ended by it."""
    return [line for line in output.splitlines() if "initctl: " in line and "runlevel" not in line]


@pytest.fixture
def place() -> Iterator[Path]:
    """A file system in RAM of its own: an overlay cannot write to another one."""
    with_mount = Path("/run/guest-initctl")
    with_mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "test", with_mount], check=True)
    yield with_mount
    subprocess.run(["umount", "--recursive", with_mount], check=True)
    with_mount.rmdir()


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *((name, REBOOT) for name in INITS),
        *((name, POWER_OFF) for name in ("systemd", "sysvinit")),
        *(pytest.param(name, POWER_OFF, marks=pytest.mark.long) for name in ("busybox", "openrc", "runit")),
    ],
)
def test_real_inits(zipapp: Path, repo: Path, place: Path, name: str, level: str) -> None:
    init = INITS[name]
    root = repo / "vm/out/roots" / ("inits" if init.inits else "builder")
    if not root.is_dir() and not strict():
        pytest.skip(f"there is no root {root.name}; make it with: vm/enter {root.name} true")
    ask = f"telinit {level}" if init.telinit else f"python3 /writer {init.path} {level}"
    replaced = {"PATH": init.path, "ASK": ask, "INIT": init.argv}
    start = START
    for word, text in replaced.items():
        start = start.replace(word, str(text))
    for path, content in {**init.files, "start": start, "writer": WRITER}.items():
        target = place / "tree" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(0o755)
    shutil.copyfile(zipapp, place / "tree/program")
    for directory in ("upper", "work", "root"):
        (place / directory).mkdir()
    options = f"lowerdir={place}/tree:{root},upperdir={place}/upper,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "test", place / "root"], check=True)
    spaces = ["--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts", "--net", "--cgroup"]
    with control_group("initctl") as group:
        if group is None and name == "systemd":
            pytest.skip("systemd needs a control group, and none can be made here")
        script = f'echo $$ >{group}/cgroup.procs; exec "$@"' if group else 'exec "$@"'
        done = run("sh", "-c", script, "sh", "unshare", *spaces, "chroot", place / "root", "/start")
    output = (place / "upper/output").read_text()
    assert answers(output), f"{done.stdout}{output}"
    assert all(init.said[level] in line for line in answers(output)), f"{done.stdout}{output}"
    assert done.returncode == -ENDS[level], f"{done.stdout}{output}"
    if not init.telinit:
        assert "for runlevel 51 is not for a container" in output


@pytest.mark.parametrize(("level", "mapped"), [(REBOOT, False), (POWER_OFF, True)])
def test_of_a_guest(zipapp: Path, repo: Path, place: Path, level: str, *, mapped: bool) -> None:
    """The process that serves it belongs to the guest, and sees nothing else."""
    root = repo / "vm/out/roots/builder"
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    (place / "upper/etc").mkdir()
    (place / "upper/etc/inittab").write_text(f"::once:/usr/bin/touch {READY}\n")
    (place / "upper/writer").write_text(WRITER)
    options = f"lowerdir={root},upperdir={place}/upper,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "test", place / "root"], check=True)
    ask = f"until [ -e {READY} ]; do sleep 0.05; done; exec python3 /writer /dev/initctl {level}"
    # All processes have the same root and namespaces, and no descriptor of anything else.
    same = "stat -L -c '%d:%i' /proc/[0-9]*/$each | sort -u | wc -l"
    files = "readlink /proc/[0-9]*/fd/* | grep ^/ | sort -u"
    seen = f"for each in root ns/user ns/mnt ns/cgroup; do {same}; done; {files}; echo end"
    config = {
        "root": str(place / "root"),
        "initctl": True,
        "exec": {
            "before": [["sh", "-c", f"{seen}; ({ask}) >/dev/null 2>&1 &"]],
            "command": "/usr/bin/busybox init",
        },
    }
    if mapped:
        config["id_map"] = {"users": "0 0 65536", "groups": "0 0 65536"}
    (place / "init.yml").write_text(json.dumps(config))
    spaces = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]
    done = run("unshare", *spaces, sys.executable, zipapp, "guest", "--config", place / "init.yml")
    counts, opened = done.stdout.split()[:4], done.stdout.partition("\nend\n")[0].split()[4:]
    assert counts == ["1"] * 4, done.stdout
    assert "/dev/initctl" in opened, done.stdout
    # The programs that look have some files of their own.
    strange = [path for path in opened if not path.startswith(("/usr/", "/proc/"))]
    assert set(strange) <= {"/dev/initctl", "/dev/null"}, done.stdout
    assert answers(done.stdout), done.stdout
    assert all(INITS["busybox"].said[level] in line for line in answers(done.stdout)), done.stdout
    # A mapped guest may not end its namespaces; its init just ends.
    assert done.returncode == (0 if mapped else -ENDS[level]), done.stdout


def test_a_guest_whose_fifo_cannot_be_made(zipapp: Path, tmp_path: Path) -> None:
    """The message names the key, and nothing stays."""
    root = busybox_root(tmp_path / "root")
    (root / "dev/initctl").touch()
    text = f"root: {root}\ninitctl: true\nsetup: {{mode: none}}\nexec: {{command: /bin/true}}\n"
    ended = Container(zipapp).run(tmp_path / "init.yml", text)
    ended.error("initctl: '/dev/initctl' exists, and is no FIFO")


def request(level: str) -> bytes:
    return struct.pack("=4i368x", 0x03091969, 1, ord(level), 0)


@dataclass
class Served:
    """A running server, and its init, which is none."""

    process: subprocess.Popen[bytes]
    init: subprocess.Popen[bytes]
    path: Path
    log: Path

    def ask(self, data: bytes) -> None:
        """Write to the FIFO, as somebody who goes then."""
        place = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(place, data)
        os.close(place)


@pytest.fixture
def served(spawned: Program, tmp_path: Path) -> Iterator[Served]:
    path, log = tmp_path / "initctl", tmp_path / "log"
    with subprocess.Popen(["sleep", "10000"]) as init:
        try:
            with spawned.started("guest", "initctl", str(init.pid), "--path", path, log=log) as process:
                soon(lambda: path.is_fifo() and "is served" in log.read_text())
                yield Served(process, init, path, log)
        finally:
            init.kill()


def test_what_is_no_init_ends(served: Served) -> None:
    served.ask(b"x" * 100 + request("3") + request(POWER_OFF)[:200] + request(REBOOT))
    assert served.init.wait(SECONDS) == -signal.SIGTERM
    assert served.process.wait(SECONDS) == 0
    assert "initctl: reboot: SIGTERM for sleep" in served.log.read_text()
    assert not served.path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_ended_by_a_signal(served: Served, number: signal.Signals) -> None:
    served.process.send_signal(number)
    assert served.process.wait(SECONDS) == 0
    assert not served.path.exists()
    assert served.init.poll() is None


def test_killed_and_started_again(served: Served, spawned: Program, tmp_path: Path) -> None:
    spawned.run("guest", "initctl", str(served.init.pid), "--path", served.path).error(served.path, "has a reader")
    served.process.kill()
    served.process.wait(SECONDS)
    assert served.path.is_fifo()
    log = tmp_path / "again"
    with spawned.started("guest", "initctl", str(served.init.pid), "--path", served.path, log=log) as process:
        soon(lambda: log.exists() and "is served" in log.read_text())
        served.ask(request(POWER_OFF))
        assert process.wait(SECONDS) == 0
    assert served.init.wait(SECONDS) == -signal.SIGTERM


def test_nobody_reads_what_it_says(zipapp: Path, tmp_path: Path) -> None:
    path = tmp_path / "initctl"
    with subprocess.Popen(["sleep", "10000"]) as init:
        argv = [sys.executable, str(zipapp), "guest", "initctl", str(init.pid), "--path", str(path)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
            assert process.stderr is not None
            assert b"is served" in process.stderr.readline()
            process.stderr.close()
            for level in ("3", "4", POWER_OFF):
                place = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(place, request(level))
                os.close(place)
            assert init.wait(SECONDS) == -signal.SIGTERM
            # 120 is Python's own, if it cannot write what is left.
            assert process.wait(SECONDS) in (0, 120)
    assert not path.exists()


def test_a_flood(served: Served) -> None:
    """More than the pipe holds, from writers that wait for room."""
    script = (
        f"import sys\nfor _ in range(300): open({str(served.path)!r}, 'wb', 0).write(b'\\x69\\x19\\x09\\x03' * 1000)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [writer.wait(SECONDS) for writer in writers] == [0, 0, 0]
    assert served.process.poll() is None
    served.ask(request(POWER_OFF))
    assert served.init.wait(SECONDS) == -signal.SIGTERM
    assert served.process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["x"], "'x'"),
        (["-1"], "'-1'"),
        (["0"], "'0'"),
        (["4194304"], "'4194304'"),
        (["1", "--path", "/proc/initctl"], "'/proc/initctl'"),
        (["1", "--path", "/nowhere/initctl"], "'/nowhere/initctl'"),
        (["1", "--path", "/etc"], "'/etc' exists"),
        (["1", "--path", ""], "''"),
    ],
)
def test_refused(program: Program, words: list[str], named: str) -> None:
    program.run("guest", "initctl", *words).error(named)
