"""``guest`` that cannot go on: one error with the key, an exit code, and nothing that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lib.container import FIRST, MAP, Container, config, give
from tests.lib.program import SECONDS

ERRORS = {
    "no root": ("root: /nowhere\n", "root: '/nowhere' is not a directory"),
    "the container": ("root: /\n", "root: '/' is the container itself"),
    "no program": ("root: ROOT\n", "exec.command: there is no '/sbin/init' in 'ROOT'"),
    "no program in PATH": ("root: ROOT\nexec: {command: nothing}\n", "exec.command: cannot start 'nothing': No such"),
    "no program later": (
        "root: ROOT\nexec: {before: 'true', command: /nothing}\n",
        "exec.command: cannot start '/nothing': No such file or directory (ENOENT)",
    ),
    "no script": ("root: ROOT\nexec: {command: /etc/passwd}\n", "exec.command: '/etc/passwd' is not executable"),
    "a directory": ("root: ROOT\nexec: {command: /etc}\n", "exec.command: "),
    "hook": ("root: ROOT\nsetup: {before: [date, 'false']}\n", "setup.before[1]: 'false' exited with 1"),
    "missing hook": ("root: ROOT\nsetup: {before: nothing}\n", "setup.before: cannot start 'nothing'"),
    "killed hook": ("root: ROOT\nsetup: {before: sh -c 'kill -9 $$'}\n", "setup.before: 'sh' was killed by signal 9"),
    "inner hook": ("root: ROOT\nexec: {before: sh -c 'exit 3'}\n", "exec.before: 'sh' exited with 3"),
    "missing inner hook": ("root: ROOT\nexec: {before: [[/no, a]]}\n", "exec.before[0]: '/no' cannot be run"),
    "impossible map": (
        "root: ROOT\nexec: {command: sh}\nid_map: {users: 0 4000000000 9, groups: 0 5 1}\n",
        "id_map.users: the container itself has no ID 4000000000",
    ),
    "not YAML": ("root: [ROOT\n", "line 2: this is not YAML"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_one_error(container: Container, root: Path, tmp_path: Path, case: str) -> None:
    """One message with the key, an exit code, and nothing that stays: not even in the namespaces it was started in."""
    text, message = (part.replace("ROOT", str(root)) for part in ERRORS[case])
    if case == "impossible map":
        # The container has fewer users than it says.
        container.before = ["unshare", "--user", "--map-users=0,0,65536", "--map-groups=0,0,65536"]
        container.group = None
    before = Path("/proc/self/mountinfo").read_text()
    container.run(tmp_path / "guest.yml", text).error(message)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_nothing_stays_in_the_container(container: Container, root: Path, tmp_path: Path) -> None:
    """A failure leaves the namespaces of the container as they were, whose first process may go on."""
    path = tmp_path / "guest.yml"
    path.write_text(f"root: {root}\nsetup: {{before: mount -t tmpfs tmpfs {root}/tmp}}\nexec: {{before: 'false'}}\n")
    script = 'cat /proc/self/mountinfo; ls -A /run; echo ---; "$@" 2>&1; cat /proc/self/mountinfo; ls -A /run; ps -e'
    argv = container.argv("--config", path)
    at = argv.index(str(container.group))
    argv[at + 1 : at + 1] = ["sh", "-c", script, "sh"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=SECONDS)
    before, after = done.stdout.split("---\n")
    said, rest = after.split("what to do:")
    assert "exec.before: 'false' exited with 1" in said
    assert rest.partition("\n")[2].startswith(before)
    assert "python" not in rest


CAPABILITIES = {
    "sys_admin": ("", "CAP_SYS_ADMIN"),
    "setuid": (MAP, "CAP_SETUID"),
    "setgid": (MAP, "CAP_SETGID"),
    "chown": (MAP, "CAP_CHOWN"),
    "dac_override": (MAP, "CAP_DAC_OVERRIDE"),
    "net_admin": ("", "CAP_NET_ADMIN"),
}


@pytest.mark.parametrize("name", CAPABILITIES)
def test_missing_capability(container: Container, root: Path, tmp_path: Path, name: str) -> None:
    id_map, shown = CAPABILITIES[name]
    container.script = "ip link add guest0 type veth peer name host0"
    # The script needs what the program is to lack.
    container.script += f'; exec setpriv --bounding-set=-{name} --inh-caps=-{name} -- "$@"'
    container.run(tmp_path / "guest.yml", config(root, "true", id_map)).error(f"lacks {shown}")


@pytest.mark.parametrize("script", ["mount --bind / /", 'mount --rbind / /mnt; exec chroot /mnt "$@"'])
def test_no_user_namespace(container: Container, root: Path, tmp_path: Path, script: str) -> None:
    """The kernel refuses one below a root that is not that of the mounts; the message says what to do."""
    give(root, FIRST)
    container.script = script
    ended = container.run(tmp_path / "guest.yml", config(root, "true", MAP))
    ended.error("id_map: cannot make namespaces (unshare): Operation not permitted")
    assert "a root that is no chroot" in ended.stderr


def test_rescue(container: Container, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "guest.yml"
    for text in ("setup: {before: 'false'}", "exec: {before: 'false'}"):
        reading, writing = os.pipe()
        os.write(writing, b"echo $((6 * 7)); ls /etc/passwd; exit\n")
        os.close(writing)
        ended = container.run(path, f"root: {root}\nrescue: true\n{text}\n", stdin=reading)
        os.close(reading)
        assert ended.status == 1
        assert {"42", "/etc/passwd"} <= set(ended.stdout.split())
        assert "'false' exited with 1" in ended.stderr
        assert "rescue: this is a shell" in ended.stderr


def namespaces() -> set[str]:
    """The mount namespaces that have processes."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/mnt"))
    return found


@pytest.mark.parametrize("times", [10, pytest.param(100, marks=pytest.mark.long)])
def test_many_starts_leave_nothing(container: Container, root: Path, tmp_path: Path, times: int) -> None:
    """Also those that fail; ``no_leaks`` compares mounts, loop devices, processes and files."""
    assert container.group is not None
    give(root, FIRST)
    good = config(root, "exit 0", MAP)
    bad = f"root: {root}\n{MAP}setup: {{before: mount -t tmpfs tmpfs {root}/tmp}}\nexec: {{before: 'false'}}\n"
    before = namespaces()
    for number in range(times):
        text = bad if number % 3 == 0 else good
        assert container.run(tmp_path / "guest.yml", text).status == (number % 3 == 0)
    assert namespaces() <= before
    assert container.group.joinpath("cgroup.procs").read_text() == ""
    assert not [path for path in container.group.iterdir() if path.is_dir()]


def test_network_of_the_machine(container: Container, root: Path, tmp_path: Path) -> None:
    """Its interfaces stay, whatever happens; here, the container could not move them."""
    if not Path("/proc/sys/net/core/dev_weight").exists():
        pytest.skip("this is not the network of the machine")
    container.network = False
    container.before = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]
    before = os.listdir("/sys/class/net")
    ended = container.run(tmp_path / "guest.yml", config(root, "ls /sys/class/net")).good()
    assert ended.stdout.split() == ["lo"]
    assert "the network of this container is that of the machine" in ended.stderr
    assert os.listdir("/sys/class/net") == before


# What runs a container sends them to its first process.
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGPWR, signal.SIGRTMIN + 3])
@pytest.mark.parametrize("key", ["setup", "exec"])
def test_ended_in_a_hook(container: Container, root: Path, tmp_path: Path, key: str, number: int) -> None:
    """A container that is stopped while a hook runs stops at once, also if the hook wants to go on."""
    path = tmp_path / "guest.yml"
    script = "trap '' TERM INT; echo ready; sleep 1000; sleep 1000"
    path.write_text(f"root: {root}\n{key}: {{before: [[sh, -c, {json.dumps(script)}]]}}\n")
    with subprocess.Popen(
        container.argv("--config", path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        os.kill(int(first), number)
        try:
            assert process.wait(SECONDS) == 1
        finally:
            process.kill()
        assert b"interrupted" in process.stderr.read()
