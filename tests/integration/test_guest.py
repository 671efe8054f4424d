"""``guest``: the first process of a container sets the next root up, and becomes its init."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.lib.container import FIRST, MAP, Container, config, give
from tests.lib.program import SECONDS, Program

mapped = pytest.mark.parametrize("id_map", ["", MAP], ids=["plain", "mapped"])


LOOK = """
echo "pid $$ $(id -u) $(id -g)"
cat /proc/self/uid_map; echo "groups $(id -G)"
grep -E 'Cap(Eff|Bnd)' /proc/self/status
for name in dev/* dev/net/*; do echo "device $name $(stat -c '%F %a %u %g' /$name) $(readlink /$name)"; done
while read -r _ _ _ _ place options _; do echo "mount $place $options"; done </proc/self/mountinfo
mount | grep devpts
ls -1 /sys/class/net | sed 's/^/interface /'
echo x >/proc/sys/kernel/core_pattern || echo "no settings"
echo y >/proc/sys/net/ipv4/ip_forward && echo "own network settings" || :
hostname changed && hostname
echo "container $container"
for name in null zero urandom full tty; do test -c /dev/$name || echo "lacks $name"; done
echo x >/dev/null && head -c 3 /dev/zero | wc -c
test "$(ls -A /)" = "$(ls -A /proc/1/root)" && ls -A / | sed 's/^/entry /'
"""
DEVICES = {"null", "zero", "full", "random", "urandom", "tty"}


@mapped
def test_surroundings(container: Container, root: Path, tmp_path: Path, id_map: str) -> None:
    if id_map:
        give(root, FIRST)
    entries = set(os.listdir(root))
    ended = container.run(tmp_path / "guest.yml", config(root, LOOK, id_map)).good()
    lines = ended.stdout.splitlines()
    assert lines[0] == "pid 1 0 0"
    assert lines[1].split() == (["0", "1000000", "65536"] if id_map else ["0", "0", "4294967295"])
    assert "groups 0" in lines
    devices = {line.split()[1]: line for line in lines if line.startswith("device ")}
    for name in DEVICES:
        assert devices[f"dev/{name}"].split(maxsplit=2)[2].startswith("character special file 666 0 0"), name
    assert devices["dev/ptmx"].endswith(" pts/ptmx")
    assert devices["dev/net/tun"].split(maxsplit=2)[2].startswith("character special file 666 0 0")
    assert {"dev/pts", "dev/shm", "dev/mqueue", "dev/fd", "dev/stdin"} <= set(devices)
    places = [line.split()[1:] for line in lines if line.startswith("mount ")]
    expected = {"/", "/proc", "/proc/sys", "/proc/sys/net", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"}
    assert {place for place, _ in places} == expected | {"/sys", "/sys/fs/cgroup", "/run"}
    assert dict(places)["/sys"].startswith("ro,")
    assert dict(places)["/proc/sys"].startswith("ro,")
    pts = next(line for line in lines if line.startswith("devpts "))
    assert "ptmxmode=666" in pts
    assert f"gid={FIRST + 5 if id_map else 5}" in pts
    assert [line.split()[1] for line in lines if line.startswith("interface ")] == ["lo"]
    assert "no settings" in ended.stdout
    assert "own network settings" not in ended.stdout
    assert {"changed", "container bootc-live", "3"} <= set(lines)
    assert not [line for line in lines if line.startswith("lacks")]
    # The old root is not below the new one.
    assert {line.split()[1] for line in lines if line.startswith("entry ")} == entries
    capabilities = {line.split()[0]: int(line.split()[1], 16) for line in lines if line.startswith("Cap")}
    held = int(next(x.split()[1] for x in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in x), 16)
    # CAP_SYS_RAWIO is never one of a user namespace.
    held &= ~(bool(id_map) << 17)
    assert capabilities["CapEff:"] & held == held
    assert capabilities["CapBnd:"] == capabilities["CapEff:"]
    assert os.uname().nodename != "changed"


def test_owners_on_both_sides(container: Container, root: Path, tmp_path: Path) -> None:
    give(root, FIRST)
    (root / "theirs").write_text("of nobody in the guest")
    os.chown(root / "theirs", 0, 0)
    (root / "theirs").chmod(0o600)
    script = """
    echo made >/made; chown 5:6 /made; stat -c '%u:%g %n' /made /theirs /bin/sh
    cat /theirs || echo "not readable"; chown 0:0 /theirs || echo "not mine"
    chown 70000 /made || echo "no such user"
    """
    ended = container.run(tmp_path / "guest.yml", config(root, script, MAP)).good()
    assert ended.stdout.splitlines() == [
        *("5:6 /made", "65534:65534 /theirs", "0:0 /bin/sh"),
        *("not readable", "not mine", "no such user"),
    ]
    found = (root / "made").stat()
    assert (found.st_uid, found.st_gid) == (FIRST + 5, FIRST + 6)


def test_control_group(container: Container, root: Path, tmp_path: Path) -> None:
    """A guest with an ID map manages its processes below its group, and cannot change what limits the group."""
    assert container.group is not None
    give(root, FIRST)
    script = """
    cd /sys/fs/cgroup
    cat /proc/self/cgroup | grep ^0::
    for name in *; do test ! -f $name || (echo max >$name) 2>/dev/null && echo "writes $name" || :; done
    mkdir inner; echo 1 >inner/cgroup.procs; grep ^0:: /proc/self/cgroup; echo 1 >cgroup.procs; rmdir inner
    for name in * .; do stat -c '%u:%g %n' $name; done
    ls -d /sys/fs/cgroup/..* /sys/fs/cgroup/*.test* || :
    """
    ended = container.run(tmp_path / "guest.yml", config(root, script, MAP)).good()
    lines = ended.stdout.splitlines()
    assert lines[0] == "0::/"
    assert "0::/inner" in lines
    assert not [line for line in lines if line.startswith("writes ")]
    owned = {line.split()[1] for line in lines if line.startswith("0:0 ")}
    assert owned == {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "."}
    # From outside, only that has another owner.
    given = {path.name for path in container.group.iterdir() if path.stat().st_uid == FIRST}
    assert given == owned - {"."}
    assert container.group.stat().st_uid == FIRST


@mapped
def test_old_root_is_out_of_reach(container: Container, root: Path, tmp_path: Path, id_map: str) -> None:
    """Nothing can be unmounted, moved or opened that would show the container's root or what it has hidden."""
    if id_map:
        give(root, FIRST)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (root / "hidden").mkdir()
    (root / "hidden/below").write_text("below")
    script = f"""
    umount / 2>/dev/null; umount -l / 2>/dev/null
    umount /hidden 2>/dev/null && echo "unmounted"
    mount -o remount,rw /proc/sys 2>/dev/null && echo "remounted"
    umount /proc/sys 2>/dev/null && echo "unmounted settings"
    ls /hidden
    cat {secret} /proc/1/root{secret} /proc/1/cwd/../..{secret} /../../..{secret} 2>/dev/null
    for fd in /proc/self/fd/*; do case $(readlink $fd) in /dev/null|pipe:*|/proc/*) ;; *) ls $fd ;; esac; done
    mkdir /tmp/o && mount --bind / /tmp/o && ls /tmp/o/..
    """
    container.script = f"mount -t tmpfs tmpfs {root}/hidden"
    ended = container.run(tmp_path / "guest.yml", config(root, f"set +e\n{script}\nexit 0", id_map)).good()
    assert "secret" not in ended.stdout
    if id_map:
        assert "below" not in ended.stdout
        assert "mounted" not in ended.stdout


def test_mount_points_are_made(container: Container, root: Path, tmp_path: Path) -> None:
    for name in ("proc", "sys", "dev", "run"):
        (root / name).rmdir()
    ended = container.run(tmp_path / "guest.yml", config(root, "mount | cut -d ' ' -f 3")).good()
    assert {"/proc", "/sys", "/dev", "/run"} <= set(ended.stdout.split())


def test_read_only_root(container: Container, root: Path, tmp_path: Path) -> None:
    container.script = f"mount --bind {root} {root}; mount -o remount,bind,ro {root}"
    script = "touch /x || echo 'read-only'; touch /run/x /dev/shm/x; ls /proc/self/status"
    ended = container.run(tmp_path / "guest.yml", config(root, script)).good()
    assert "read-only" in ended.stdout
    (root / "sys").rmdir()
    message = container.run(tmp_path / "guest.yml", config(root, script)).error("setup.mode: cannot mount /sys")
    assert "EROFS" in message


@pytest.mark.parametrize("mode", ["pivot", "chroot", "none"])
@mapped
def test_root_mode(container: Container, root: Path, tmp_path: Path, mode: str, id_map: str) -> None:
    if id_map:
        give(root, FIRST)
    inside = "" if mode != "none" else str(root)
    script = f"cat {inside}/etc/mark; test -e {inside}/proc/self && test -c {inside}/dev/null; ls -d /sys/class/net/*"
    (root / "etc/mark").write_text("the guest's\n")
    text = f"root: {{path: {root}, mode: {mode}}}\nexec: {{command: {json.dumps(['sh', '-c', script])}}}\n{id_map}"
    ended = container.run(tmp_path / "guest.yml", text).good()
    assert ended.stdout.startswith("the guest's\n")


def test_setup_none(container: Container, root: Path, tmp_path: Path) -> None:
    """Namespaces and file systems are those of the container, or what hooks make."""
    before = f"setup:\n  mode: none\n  before: [mount -t proc proc {root}/proc]\n"
    script = "ls -A /dev /sys; readlink /proc/self/ns/net; ls /proc/1/exe"
    container.script = "readlink /proc/self/ns/net"
    ended = container.run(tmp_path / "guest.yml", config(root, script, before)).good()
    lines = ended.stdout.splitlines()
    assert lines[0] == lines[-2]
    assert lines[1:-2] == ["/dev:", "", "/sys:"]


def test_hooks(container: Container, root: Path, tmp_path: Path) -> None:
    text = f"""
    root: {root}
    setup:
      before:
      - echo "'one'  $two" `three`
      - [echo, "$four  five"]
      - command: sh -e
        input: |
          mount -t tmpfs tmpfs {root}/tmp
          echo "six $(cat)" >{root}/tmp/file
    exec:
      before:
      - command: cat - /tmp/file
        input: |
          seven
      - sh -c 'echo eight; cat; cat /proc/self/mountinfo | grep -c " / "; sleep 1000 &'
      command: ["/bin/sh", "-c", "echo nine $0; kill -9 -1", "own"]
    """
    ended = container.run(tmp_path / "guest.yml", text, "--", "more")
    assert ended.stdout.splitlines() == [
        *("'one'  $two `three`", "$four  five", "seven", "six ", "eight"),
        *(ended.stdout.splitlines()[5], "nine own"),
    ]


# Leaves a child that has ended: awk, unlike a shell, takes no note of it.
LEAVE = r"""
sleep 0 &
exec awk -v f=/proc/$!/stat 'BEGIN { while ((getline line < f) > 0) { close(f); if (line ~ /\) Z /) exit } exit 1 }'
"""


def test_ended_processes_are_reaped(container: Container, root: Path, tmp_path: Path) -> None:
    """What hooks leave: the guest's init may not know of it."""
    hook = json.dumps(["sh", "-c", LEAVE])
    text = f"root: {root}\nexec:\n  before: [{hook}]\n  command: ps -o stat\n"
    assert container.run(tmp_path / "guest.yml", text).good().stdout.split() == ["STAT", "R"]


def test_command_line(container: Container, root: Path, tmp_path: Path) -> None:
    text = f"root: {root}\nexec: {{command: echo one}}\n"
    path = tmp_path / "guest.yml"
    assert container.run(path, text).good().stdout == "one\n"
    assert container.run(path, text, "--", "two", "three 4").good().stdout == "one two three 4\n"
    assert container.run(path, text, "--override-exec", "--", "echo", "five").good().stdout == "five\n"


def test_default_configuration(container: Container, root: Path) -> None:
    (root / "sbin").mkdir()
    (root / "sbin/init").write_text("#!/bin/sh\npwd\n")
    (root / "sbin/init").chmod(0o755)
    container.script = f"mount -t tmpfs tmpfs /mnt; mkdir /mnt/root; mount --bind {root} /mnt/root"
    done = subprocess.run(
        container.argv(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert done.stdout == "/\n"


def test_interfaces_move_with_addresses(container: Container, root: Path, tmp_path: Path) -> None:
    container.script = """
    ip link add guest0 type veth peer name host0
    ip link add guest1 address 02:00:00:00:00:07 type veth peer name host1
    ip address add 192.0.2.2/24 dev guest0; ip address add 2001:db8::2/64 dev guest0 nodad
    ip link set guest0 up; ip link set host0 up
    ip route add default via 192.0.2.1; ip route add 198.51.100.0/24 via 192.0.2.9 metric 50
    ip route add default via 2001:db8::1
    """
    script = "ip address; ip route; ip -6 route; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo pong"
    for more in ("", MAP):
        if more:
            give(root, FIRST)
        ended = container.run(tmp_path / "guest.yml", config(root, script, more)).good()
        for text in (
            *("inet 192.0.2.2/24", "inet6 2001:db8::2/64", "default via 192.0.2.1", "default via 2001:db8::1"),
            *("198.51.100.0/24 via 192.0.2.9", "metric 50", "link/ether 02:00:00:00:00:07", "pong"),
        ):
            assert text in ended.stdout, ended.stdout
        names = [line.split()[1].split("@")[0] for line in ended.stdout.splitlines() if "mtu" in line]
        assert {name.rstrip(":") for name in names} == {"lo", "guest0", "guest1", "host0", "host1"}


def test_devices_of_the_container(container: Container, root: Path, tmp_path: Path) -> None:
    """What a platform gives a container, its guest has, too, unless it is excluded; elsewhere, it would be too much."""
    container.script = """
    mount -t tmpfs tmpfs /dev; mkdir -p /dev/net /dev/dri/by-path /dev/pts
    for name in null zero full random urandom tty net/tun fuse dri/card0 kvm; do mknod /dev/$name c 1 3; done
    """
    script = "cd /dev; find . -type c ! -path './pts/*' | sort"
    path = tmp_path / "guest.yml"
    common = ["./full", "./net/tun", "./null", "./random", "./tty", "./urandom", "./zero"]
    assert container.run(path, config(root, script)).good().stdout.split() == common
    container.environment["container"] = "podman"
    found = container.run(path, config(root, script)).good().stdout.split()
    assert sorted(found) == sorted([*common, "./fuse", "./dri/card0", "./kvm"])
    excluded = "devices: {exclude: [dri, /dev/kvm, net/tun, full]}\n"
    found = container.run(path, config(root, script, excluded)).good().stdout.split()
    assert found == ["./fuse", "./null", "./random", "./tty", "./urandom", "./zero"]
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_check_changes_nothing(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "guest.yml"
    path.write_text(f"root: /nowhere\nsetup: {{before: [touch {tmp_path}/made]}}\n{MAP}")
    assert "no mistakes" in program.run("guest", "--config", path, "--check").good().stdout
    path.write_text("rooot: /a\ninitctl: 5\n")
    program.run("guest", "--check", "--config", path).error("line 1: rooot is unknown", "line 2: initctl is a number")
    program.run("guest", "--config", path).error("2 mistakes")
    program.run("guest", "--config", tmp_path / "none").error("No such file")
    assert os.listdir(tmp_path) == ["guest.yml"]


def test_image_as_root(container: Container, busybox: Path, tmp_path: Path) -> None:
    """The root is made as a boot makes one: in RAM, verified, writable; owners are those of the image in the guest."""
    archive = tmp_path / "root.oci"
    Program(container.zipapp).run("build", busybox, "--output", archive).good()
    script = "stat -c '%u:%g %n' / /bin/busybox /etc; echo x >/made && cat /made; mount | head -1; ls /run"
    path = tmp_path / "guest.yml"
    for id_map in ("", MAP):
        for layout in ("index", "erofs", "tree"):
            text = f"root: {{source: {archive}, layout: {layout}}}\n"
            text += f"exec: {{command: {json.dumps(['sh', '-ec', script])}}}\n{id_map}"
            lines = container.run(path, text).good().stdout.splitlines()
            assert lines[:4] == ["0:0 /", "0:0 /bin/busybox", "0:0 /etc", "x"], (id_map, layout)
            assert len(lines) == 5
        text = f"root: {{source: {archive}, cmdline: rw=0}}\nexec: {{command: touch /x}}\n{id_map}"
        assert "Read-only" in container.run(path, text).stderr
    text = f"root: {{source: {archive}, cmdline: bootc.trust.key=/nowhere.pub}}\n"
    container.run(path, text).error("/nowhere.pub")
    container.run(path, "root: {source: /nowhere.oci}\n").error("/nowhere.oci")


def test_root_by_a_link(container: Container, root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    for mode in ("pivot", "chroot"):
        text = f"root: {{path: {tmp_path}/link, mode: {mode}}}\nexec: {{command: cat /etc/passwd /proc/self/comm}}\n"
        assert container.run(tmp_path / "guest.yml", text).good().stdout.endswith("\ncat\n")


@pytest.mark.parametrize("owner", [0, 1000], ids=["plain", "mapped"])
def test_container_in_a_user_namespace(container: Container, root: Path, tmp_path: Path, owner: int) -> None:
    """As unprivileged containers are: they may make no devices, and the guest gets those that they have."""
    give(root, owner)
    container.group = None
    unshare = "unshare --user --map-users=0,0,65536 --map-groups=0,0,65536 --pid --fork --kill-child --mount-proc"
    container.before = [*unshare.split(), "--mount", "--net", "--ipc", "--uts", "--cgroup"]
    script = "id -u; for d in null zero full random urandom tty net/tun; do test -c /dev/$d && echo $d; done; "
    script += "echo x >/dev/null; ls -d /proc/1 /sys/class/net/lo /dev/pts/ptmx; cat /proc/self/uid_map; touch /made"
    more = f"id_map: {{users: 0 {owner} 5000, groups: 0 {owner} 5000}}\n" if owner else ""
    lines = container.run(tmp_path / "guest.yml", config(root, script, more)).good().stdout.splitlines()
    assert lines[:8] == ["0", "null", "zero", "full", "random", "urandom", "tty", "net/tun"]
    assert sorted(lines[8:11]) == ["/dev/pts/ptmx", "/proc/1", "/sys/class/net/lo"]
    assert (root / "made").stat().st_uid == owner
