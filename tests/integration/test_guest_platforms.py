"""``guest`` as the first process of the containers that people have: systemd-nspawn, podman, libvirt-lxc and LXC.

Commands and configuration are those of docs/guest.md, and this machine's root is that of the container. libvirt-lxc
gets no network, which needs more of libvirt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.test_guest_systems import layer
from tests.lib.container import FIRST, busybox_root, control_group
from tests.lib.pages import blocks
from tests.lib.program import ENVIRONMENT

SECONDS = 240
TOP = Path("/srv/guest")
# What managers of containers leave in /run goes with their namespace.
ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
# Its arguments are a domain, its name, and a directory. When libvirtd has ended it, its control groups are gone, too.
LIBVIRT = """
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
mkdir -p /run/libvirt /var/log/libvirt/lxc
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
libvirtd --daemon
until virsh --connect lxc:///system list >/dev/null 2>&1; do sleep 0.2; done
virsh --connect lxc:///system create "$0" || { cat /var/log/libvirt/lxc/*.log; exit 1; }
until test -e "$2/cache/overlay/upper/srv/report"; do sleep 0.2; done
virsh --connect lxc:///system destroy "$1"
rmdir /sys/fs/cgroup/*/machine 2>/dev/null || :
mv "$2/cache/overlay/upper/srv/report" "$2/cache/overlay/upper/srv/seen"
sleep infinity
"""
# Groups of the first version would stay when a test is killed.
SECOND_VERSION = """
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
"""
# As nesting.conf of LXC, and Incus. Files of this /proc come and go.
NESTING = "lxc.mount.entry=proc dev/.lxc/proc proc create=dir 0 0"
# Its argument is the guest's report.
LXC_STOP = """
until test -e "$0"; do kill -0 $!; sleep 0.2; done
lxc-stop --name=guest --nokill
wait $!
mv "$0" "${0%/*}/seen"
sleep infinity
"""
PRIVATE_RUN = "mount -t tmpfs -o mode=755 tmpfs /run\n"
CONTAINERS = """\
[containers]
cgroups = "{cgroups}"
netns = "{network}"
pids_limit = 0
log_driver = "none"
[network]
firewall_driver = "none"
network_config_dir = "/run/containers/networks"
[engine]
cgroup_manager = "cgroupfs"
"""
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{top}/graph"
runroot = "{top}/run"
"""


@pytest.fixture
def page(repo: Path) -> dict[str, str]:
    """The blocks of the page, by their headings."""
    return {block.heading: block.text for block in blocks((repo / "docs/guest.md").read_text())}


@pytest.fixture
def top(zipapp: Path, repo: Path, page: dict[str, str]) -> Iterator[Path]:
    """The files of the page's table, but the guest's root."""
    TOP.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", TOP], check=True)
    try:
        for name in ("os", "own/upper", "own/work", "root", "cache"):
            (TOP / name).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={TOP}/own/upper,workdir={TOP}/own/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", TOP / "os"], check=True)
        program = TOP / "os/usr/lib/bootc-live/program"
        with zipfile.ZipFile(zipapp) as archive:
            archive.extractall(program)
        (TOP / "os/usr/sbin/init").unlink()
        shutil.copy(repo / "vm/guest/bootc-live", TOP / "os/usr/sbin/init")
        for name in ("root", "cache"):
            (TOP / "os/mnt" / name).mkdir(exist_ok=True)
        (TOP / "init.yml").write_text(page["Platforms"])
        yield TOP
    finally:
        subprocess.run(["umount", "--recursive", TOP], check=True)
        TOP.rmdir()


def run(argv: Sequence[str], report: Path, log: Path, variables: dict[str, str]) -> list[str]:
    """Run a container until its guest reports; return the lines."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**ENVIRONMENT, **variables}
        ) as process,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while not report.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            return report.read_text().splitlines()
        finally:
            process.kill()


def check(lines: list[str], init: str, log: Path, *, interface: str = "", said: bool = True) -> None:
    """The guest is as its file says, and has the interface of the container."""
    assert lines[:3] == [init, "0", "0:0"]
    assert lines[3].split() == ["0", str(FIRST), "65536"]
    assert "made 0:0" in lines
    assert not [line for line in lines if line.startswith("failed ")]
    assert {line for line in lines if line.startswith("interface ")} >= {f"interface {interface or 'lo'}"}
    assert not said or "the guest starts" in log.read_text()


def test_nspawn(top: Path, page: dict[str, str], repo: Path, tmp_path: Path) -> None:
    make_guest("systemd", top, repo, tmp_path)
    # There is no machined to register with, and nothing of the machine's network is touched.
    command = page["systemd-nspawn"].replace("systemd-nspawn", "systemd-nspawn --register=no --keep-unit", 1)
    log = tmp_path / "log"
    with control_group("nspawn") as group:
        enter = f"echo 0 >{group}/cgroup.procs\n{SECOND_VERSION}" if group else ""
        lines = run([*ALONE, PRIVATE_RUN + enter + command], top / "cache/overlay/upper/srv/report", log, {})
    check(lines, "systemd", log, interface="host0")


def make_guest(init: str, top: Path, repo: Path, tmp_path: Path) -> None:
    """Make the guest's root, with busybox or systemd as its init."""
    if init == "busybox":
        busybox_guest(top, tmp_path)
        return
    subprocess.run(["systemd-machine-id-setup"], check=True, capture_output=True)
    upper = layer("systemd", tmp_path / "layer")
    subprocess.run(["cp", "-a", f"{repo}/vm/out/roots/live/.", f"{upper}/.", top / "root"], check=True)


def busybox_guest(top: Path, tmp_path: Path) -> None:
    """Make the guest's root, with busybox as its init."""
    root = top / "root"
    root.rmdir()
    busybox_root(root)
    for name in ("srv", "sbin"):
        (root / name).mkdir()
    (root / "sbin/init").symlink_to("../bin/busybox")
    subprocess.run(["cp", "-a", f"{layer('busybox', tmp_path / 'layer')}/.", root], check=True)


def controllers() -> list[str]:
    """The controllers of the second version."""
    path = Path("/sys/fs/cgroup/cgroup.controllers")
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(
    ("cgroups", "network"), [("enabled", "bridge"), pytest.param("disabled", "none", marks=pytest.mark.long)]
)
def test_podman(top: Path, page: dict[str, str], tmp_path: Path, cgroups: str, network: str) -> None:
    busybox_guest(top, tmp_path)
    (tmp_path / "containers.conf").write_text(CONTAINERS.format(cgroups=cgroups, network=network))
    (tmp_path / "storage.conf").write_text(STORAGE.format(top=top))
    variables = {
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }
    log = tmp_path / "log"
    with control_group("podman") as group:
        if group is None and cgroups == "enabled":
            pytest.skip("no control group can be made here")
        enter = f"echo 0 >{group}/cgroup.procs\n" if group else ""
        argv = [*ALONE, f'{enter}exec unshare --cgroup sh -ec "$0"', f"{SECOND_VERSION}{PRIVATE_RUN}{page['podman']}"]
        lines = run(argv, top / "cache/overlay/upper/srv/report", log, variables)
        given = [path.name for path in group.glob("libpod_parent/*")] if group else []
    assert any(name.startswith("libpod-") for name in given) == (cgroups == "enabled")
    check(lines, "init", log, interface="eth0" if network == "bridge" else "")
    assert os.path.ismount(top)


@pytest.mark.parametrize("init", ["systemd", pytest.param("busybox", marks=pytest.mark.long)])
def test_lxc(top: Path, page: dict[str, str], repo: Path, tmp_path: Path, init: str) -> None:
    """`lxc-stop` ends the guest as its init wants it; LXC's control groups are below that of the test."""
    make_guest(init, top, repo, tmp_path)
    report, log, console = top / "cache/overlay/upper/srv/report", tmp_path / "log", tmp_path / "console"
    command = page["LXC"].replace("lxc-start", f"lxc-start --define='{NESTING}' --console-log={console}", 1)
    with control_group("lxc") as group:
        if group is None:
            pytest.skip("LXC needs a control group, and none can be made here")
        script = f"echo 0 >{group}/cgroup.procs\n{SECOND_VERSION}{PRIVATE_RUN}{command.rstrip()} &\n{LXC_STOP}"
        lines = run([*ALONE, script, str(report)], report.with_name("seen"), log, {})
    check(lines, "init" if init == "busybox" else init, console, interface="eth0")


def test_libvirt_lxc(top: Path, page: dict[str, str], tmp_path: Path) -> None:
    """Under a libvirtd of its own; it wants control groups of the first version, or all of the second."""
    if not Path("/sys/fs/cgroup/memory").is_dir() and "memory" not in controllers():
        pytest.skip("libvirt needs the memory controller, which this machine does not give")
    busybox_guest(top, tmp_path)
    (top / "os/mnt/init.yml").write_text((top / "init.yml").read_text())
    domain = tmp_path / "guest.xml"
    without_network = re.sub(r"<interface.*</interface>", "", page["libvirt-lxc"])
    name = f"guest-{os.getpid()}-{time.monotonic_ns()}"
    domain.write_text(without_network.replace("<name>guest<", f"<name>{name}<"))
    log = tmp_path / "log"
    lines = run([*ALONE, LIBVIRT, str(domain), name, str(top)], top / "cache/overlay/upper/srv/seen", log, {})
    check(lines, "init", log, said=False)


# libvirt refuses until it knows the guest's init. The guest's report is made again when it starts again.
AGAIN = """rm "$2/cache/overlay/upper/srv/report"
until VIRSH reboot --mode initctl "$1"; do sleep 0.2; done
until test -e "$2/cache/overlay/upper/srv/report"; do sleep 0.2; done
VIRSH destroy "$1"
"""
OFF = """until VIRSH shutdown --mode initctl "$1"; do sleep 0.2; done
while VIRSH domstate "$1" >/dev/null 2>&1; do sleep 0.2; done
"""


@pytest.mark.parametrize(
    ("mapped", "end"), [(True, OFF), (False, AGAIN), pytest.param(False, OFF, marks=pytest.mark.long)]
)
def test_virsh(top: Path, page: dict[str, str], tmp_path: Path, end: str, *, mapped: bool) -> None:
    """By the FIFO that `initctl: true` serves, and by nothing else."""
    if not Path("/sys/fs/cgroup/memory").is_dir() and "memory" not in controllers():
        pytest.skip("libvirt needs the memory controller, which this machine does not give")
    busybox_guest(top, tmp_path)
    text = (top / "init.yml").read_text() + "initctl: true\n"
    if not mapped:
        text = re.sub(r"^(id_map:|  users:|  groups:|  - mount-idmapped).*\n", "", text, flags=re.MULTILINE)
    (top / "os/mnt/init.yml").write_text(text)
    domain = tmp_path / "guest.xml"
    name = f"guest-{os.getpid()}-{time.monotonic_ns()}"
    without_network = re.sub(r"<interface.*</interface>", "", page["libvirt-lxc"])
    domain.write_text(without_network.replace("<name>guest<", f"<name>{name}<"))
    virsh = "virsh --connect lxc:///system"
    script = LIBVIRT.replace(f'{virsh} destroy "$1"\n', end.replace("VIRSH", virsh))
    assert "--mode initctl" in script
    log = tmp_path / "log"
    run([*ALONE, script, str(domain), name, str(top)], top / "cache/overlay/upper/srv/seen", log, {})
