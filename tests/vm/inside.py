"""A look inside a running guest, over ssh."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import testinfra
from testinfra.host import Host

from vmkit.base import BaseGuest
from vmkit.paths import OUT

NETWORK_SECONDS = 120
TREE_LIST = Path(__file__).resolve().parents[1] / "lib" / "tree-list.sh"


def connect(guest: BaseGuest, *, lasting: bool = False) -> Host:
    """Gives testinfra's view of a guest that is ready.

    Its default target does not wait for its network, so that an address may be on its way still. A login takes a second
    of an emulated machine: all commands share a `lasting` one, which ends with the guest or before.
    """
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=120"
    # A guest that starts another kernel closes no connection.
    options += " -o ServerAliveInterval=30 -o ServerAliveCountMax=4"
    if lasting:
        options += f" -o ControlMaster=auto -o ControlPersist=yes -o ControlPath={_shared_login(guest)}"
    host = testinfra.get_host(
        "ssh://root@guest",
        ssh_identity_file=str(OUT / "id_ed25519"),
        ssh_extra_args=f"{options} {shlex.join(guest.ssh_options())}",
    )
    deadline = time.monotonic() + NETWORK_SECONDS
    while True:
        try:
            host.run_test("true")
            return host
        except RuntimeError:
            # Of ssh itself, exit status 255.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _shared_login(guest: BaseGuest) -> Path:
    """The socket of the ssh that other ones ask, as long as the guest runs."""
    directory = Path(tempfile.mkdtemp(prefix="vm-ssh-"))

    def end() -> None:
        argv = ["ssh", "-o", f"ControlPath={directory / 'socket'}", "-O", "exit", "guest"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        shutil.rmtree(directory)

    guest.at_end(end)
    return directory / "socket"


def power_off(host: Host) -> None:
    """Tells the guest to; its network may be gone before ssh knows how that went.

    `systemctl poweroff` asks systemd-logind first, and waits for 50 seconds where that cannot start.
    """
    with suppress(RuntimeError):
        host.run("systemctl start --no-block --job-mode=replace-irreversibly poweroff.target")


def mounts(host: Host) -> dict[str, dict[str, Any]]:
    """The guest's mounts by target, as findmnt(8) gives them; of stacked ones the topmost."""
    listed = json.loads(host.check_output("findmnt --json --list --output TARGET,FSTYPE,OPTIONS,SOURCE"))
    return {entry["target"]: entry for entry in listed["filesystems"]}


def options(host: Host, target: str) -> set[str]:
    """The options of one mount."""
    return set(mounts(host)[target]["options"].split(","))


def writable(host: Host, directory: str) -> bool:
    """Whether a file can be made in a directory."""
    return bool(host.run(f"touch {directory}/.probe && rm {directory}/.probe").rc == 0)


def tree(host: Host, directory: str) -> list[str]:
    """The list of a directory's tree, one line per file (tests/lib/tree-list.sh)."""
    done = host.run("sh -c %s tree-list.sh %s", TREE_LIST.read_text(), directory)
    assert done.rc == 0, done.stderr
    return str(done.stdout).splitlines()
