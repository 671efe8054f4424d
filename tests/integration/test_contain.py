"""``pivot --contain``: the root runs in namespaces, as it would after a pivot; and nothing of it remains."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.archive_servers import Stored, archive_server
from tests.lib.oci_writer import Image, Layer, sha256, write_archive
from tests.lib.program import ENVIRONMENT, Ended, Program
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, layer
from tests.unit.test_pivot_program import elf

SECONDS = 60
PROGRAMS = ("sh", "cat", "id", "ls", "sleep", "env", "readlink")
PASSWD = "root:x:0:0::/root:/bin/sh\njoe:x:1000:100::/home/joe:/bin/sh\n"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a few programs and the libraries that they need."""
    root = tmp_path_factory.mktemp("tools")
    for name in PROGRAMS:
        program = Path(shutil.which(name) or name).resolve()
        listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
        for source in re.findall(r"(/\S+)", listed):
            target = root / source.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy(program, root / "bin" / name)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(PASSWD)
    return root


def contained(program: Program, *words: str | Path) -> Ended:
    return program.run("pivot", "--contain", *words)


def left_over() -> list[str]:
    """What a contained root could leave on the machine."""
    mounts = Path("/proc/self/mountinfo").read_text()
    found = [line for line in mounts.splitlines() if "bootc-live" in line]
    return found + sorted(name for name in os.listdir("/run") if name.startswith("bootc-live"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = left_over()
    yield
    assert left_over() == before


def test_program_and_its_surroundings(program: Program, tools: Path) -> None:
    script = """
    echo "pid $$"; id -u; cat /proc/1/comm; readlink /dev/fd; ls /dev; cat /sys/class/net/lo/flags; ls /sys/class/net
    echo changed >/proc/sys/kernel/core_pattern || echo "no settings"
    echo x >/made && cat /made; echo "container $container"; exit 7
    """
    ended = contained(program, tools, "--", "sh", "-c", script)
    assert ended.status == 7, ended.stderr
    lines = ended.stdout.split()
    assert lines[:3] == ["pid", "2", "0"]
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "ptmx", "mqueue"} <= set(lines)
    assert "0x9" in lines
    assert not {name for name in os.listdir("/sys/class/net") if name != "lo"} & set(lines)
    assert "no settings" in ended.stdout
    assert "container bootc-live" in ended.stdout
    assert not (tools / "made").exists()


def test_network_of_the_machine(program: Program, tools: Path) -> None:
    ended = contained(program, tools, "--network", "host", "--", "ls", "/sys/class/net")
    assert ended.good().stdout.split() == sorted(os.listdir("/sys/class/net"))


def test_what_the_image_says(program: Program, tools: Path, tmp_path: Path) -> None:
    tar = layer(directory("home/"), directory("home/joe/", uid=1000))
    process = {"Entrypoint": ["sh", "-c"], "Cmd": ["id; pwd; env"], "Env": ["A=b c"], "WorkingDir": "/home/joe"}
    config = {"architecture": HERE, "os": "linux", "config": {**process, "User": "joe"}}
    config["rootfs"] = {"diff_ids": [sha256(tar)]}
    archive = write_archive(tmp_path / "a.oci", Image([Layer(tar)], config=json.dumps(config).encode()))
    ended = contained(program, archive, tools)
    assert "uid=1000(joe) gid=100" in ended.good().stdout
    lines = ended.stdout.splitlines()
    assert {"/home/joe", "A=b c", "HOME=/home/joe"} <= set(lines)
    assert contained(program, archive, tools, "--command", "echo only $0").good().stdout == "only sh\n"


def test_directory_that_is_made(program: Program, tools: Path, tmp_path: Path) -> None:
    """As container engines make it; where nothing can be made, it is said."""
    tar = layer(directory("empty/"))
    process = {"Cmd": ["readlink", "/proc/self/cwd"], "WorkingDir": "/srv/not/there"}
    config = {"architecture": HERE, "os": "linux", "config": process, "rootfs": {"diff_ids": [sha256(tar)]}}
    archive = write_archive(tmp_path / "a.oci", Image([Layer(tar)], config=json.dumps(config).encode()))
    assert contained(program, archive, tools).good().stdout == "/srv/not/there\n"
    assert "cannot be made" in contained(program, archive, tools, "--cmdline", "rw=0").error()


@pytest.mark.parametrize("on_exit", ["reboot", "poweroff", "return", "shell"])
def test_what_follows_its_end(on_exit: str, program: Program, tools: Path) -> None:
    """A rehearsal ends, with a shell before that if it is wanted; the status is the program's."""
    ended = contained(program, tools, "--on-exit", on_exit, "--", "sh", "-c", "exit 7")
    assert ended.status == 7, ended.stderr
    assert ("'sh' has ended with 7" in ended.stderr) == (on_exit == "shell")


def test_init_is_the_first_process(program: Program, tools: Path, tmp_path: Path) -> None:
    init = layer(directory("sbin/"), file("sbin/init", '#!/bin/sh\necho "first $$"; exit 4\n', mode=0o755))
    (tmp_path / "init.tar").write_bytes(init)
    ended = contained(program, tools, tmp_path / "init.tar")
    assert (ended.status, ended.stdout) == (4, "first 1\n")


def test_orphans_are_reaped(program: Program, tools: Path) -> None:
    script = "(sleep 0.1 & sleep 0.1 & true); sleep 1; for p in /proc/[0-9]*/stat; do cat $p; done"
    ended = contained(program, tools, "--", "sh", "-c", script)
    assert not [line for line in ended.good().stdout.splitlines() if " Z " in line]


@contextmanager
def running(program: Program, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, str(program.zipapp), "pivot", "--contain", *map(str, words)]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


WAITING = "trap 'echo asked; exit 9' TERM INT HUP; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program(number: signal.Signals, program: Program, tools: Path) -> None:
    with running(program, tools, "--", "sh", "-c", WAITING) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "asked\n"
        assert process.wait(SECONDS) == 9


# Each process that forwards signals gets one when the program runs, and before it is ready to forward anything.
EARLY = """
import glob, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from bootc_live.__main__ import main
from bootc_live.landing.pivot.contain import contain

def runs():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if open(path, "rb").read() == b"sleep\\0000.1\\000":
                return True
        except OSError:
            pass
    return False

def early(child, numbers, become, forwarded=contain._forwarded):
    while not runs():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    return forwarded(child, numbers, become)

contain._forwarded = early
sys.exit(main(["pivot", "--contain", *sys.argv[2:]]))
"""


def test_signal_that_comes_early_is_not_lost(program: Program, tools: Path) -> None:
    argv = [sys.executable, "-c", EARLY, str(program.zipapp), str(tools), "--", "sh", "-c", WAITING]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (9, "ready\nasked\n"), done.stderr


def test_killed(program: Program, tools: Path) -> None:
    """Processes, mounts and the loop device go with it."""
    mark = "sleep 4711"
    with running(program, tools, "--", "sh", "-c", f"echo ready; {mark}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        _soon(lambda: bool(_processes(mark)))
        process.kill()
        process.wait(SECONDS)
    _soon(lambda: not _processes(mark))
    # An empty directory is what a process that was killed cannot remove any more.
    for left in Path("/run/bootc-live").glob("work.*"):
        left.rmdir()
    Path("/run/bootc-live").rmdir()


def _soon(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _processes(words: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().replace(b"\0", b" ").strip() == words.encode():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_terminal_of_its_own(program: Program, tools: Path, tmp_path: Path) -> None:
    """What is typed reaches the program, and it can not type into the caller's terminal; which is given back."""
    command = f"{sys.executable} {program.zipapp} pivot --contain {tools} -- sh"
    (tmp_path / "outer").write_text(
        f"tty; stty -g; {command} -c 'readlink /proc/self/fd/0; read line; echo got $line'; stty -g"
    )
    with subprocess.Popen(
        ["script", "--quiet", "--return", "--command", f"sh {tmp_path}/outer", "/dev/null"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as terminal:
        assert terminal.stdin is not None
        assert terminal.stdout is not None
        lines = []
        for line in terminal.stdout:
            lines.append(line.strip())
            if sum(each.startswith("/dev/pts/") for each in lines) == 2 and "typed" not in lines:
                terminal.stdin.write("typed\n")
                terminal.stdin.flush()
    outside, inside = (line for line in lines if line.startswith("/dev/"))
    assert inside != outside
    assert "got typed" in lines
    before, after = (line for line in lines if re.fullmatch(r"[0-9a-f:]{40,}", line))
    assert after == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--entrypoint", "nosuch"), "has no program 'nosuch'"),
        (("--entrypoint", "foreign"), "is not made for this machine"),
        (("--via", "soft-reboot"), "--contain replaces nothing"),
        (("--release-old-root",), "--contain replaces nothing"),
        (("--on-exit", "shell", "--entrypoint", "/sbin/init"), "--on-exit is for programs that are no init"),
        (("--cmdline", "bootc.trust.require=signature"), "is not used"),
        (("--cmdline", "bootc.trust.key=/no/such/key.pub"), "/no/such/key.pub"),
        (("--cmdline", "root=bootc-live:/x"), "has root= or bootc.kexec"),
        (("--cmdline", "bootc.live.layout=fast"), "bootc.live.layout=fast"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, program: Program, tools: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/foreign").write_bytes(elf(8))
    (tmp_path / "bin/foreign").chmod(0o755)
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/init").symlink_to("/bin/sh")
    assert said in contained(program, tools, tmp_path, *words).error()


def test_dry_run_says_what_it_fetched(program: Program, tmp_path: Path) -> None:
    """All of a compressed archive; of another one at the same place, only what it has beside its layers."""
    noise = layer(directory("sbin/"), file("sbin/init", elf(62), mode=0o755), file("noise", os.urandom(4 << 20)))
    plain = write_archive(tmp_path / "a.oci", Image([Layer(noise)], architecture=HERE)).read_bytes()
    for content, said in ((gzip.compress(plain, 1), True), (plain, False)):
        with archive_server(Stored(content)) as server:
            ended = contained(program, server.url(), "--dry-run").good()
            assert ("MiB were fetched for the plan" in ended.stderr) == said, ended.stderr
            assert (server.sent > 4 << 20) == said


def test_command_that_cannot_be_started(program: Program, tools: Path) -> None:
    """It says so, and why; found by starting it."""
    ended = contained(program, tools, "--cmdline", "rw", "--entrypoint", "sh", "--command", "-c", "exec /etc/passwd")
    assert ended.status == 126
