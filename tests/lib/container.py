"""A container for `bootc-live guest`: namespaces and a control group of its own, where it is the first process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lib.program import ENVIRONMENT, SECONDS, Ended

MAP: Final = "id_map: {users: 0 1000000 65536, groups: 0 1000000 65536}\n"
FIRST: Final = 1000000
# What the first process of a container does before it becomes the program: it goes to its control group.
_ENTER: Final = """
if [ "$0" ]; then
    echo 0 >"$0/cgroup.procs" || exit
    exec unshare --cgroup -- sh -c 'mount -t cgroup2 none "$0" && exec "$@"' "${0%/*}" "$@"
fi
exec "$@"
"""


@dataclass
class Container:
    """How `bootc-live guest` is started; `script` runs before it in the namespaces of the container.

    Without `network`, it has that of whoever starts it.
    """

    zipapp: Path
    group: Path | None = None
    script: str = ""
    before: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    network: bool = True

    def argv(self, *words: str | Path) -> list[str]:
        """The command that starts the container."""
        guest = [sys.executable, str(self.zipapp), "guest", *map(str, words)]
        if self.script:
            guest = ["sh", "-ec", f'{self.script}\nexec "$@"', "sh", *guest]
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--mount-proc"]
        unshare += ["--net"] if self.network else []
        return [*unshare, "--", "sh", "-c", _ENTER, str(self.group or ""), *self.before, *guest]

    def run(self, config: Path, text: str, *words: str | Path, stdin: int = subprocess.DEVNULL) -> Ended:
        """Run the guest of a configuration to its end."""
        config.write_text(text)
        done = subprocess.run(
            self.argv("--config", config, *words),
            stdin=stdin,
            capture_output=True,
            env={**ENVIRONMENT, **self.environment},
            timeout=SECONDS,
            check=False,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def control_group(name: str) -> Iterator[Path | None]:
    """Make a control group for the block, and yield its directory; None where there are none to write to."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    # Processes of this number may test in other namespaces.
    made = Path(mounts[0][4] + own, f"bootc-live-test.{name}.{time.monotonic_ns()}") if mounts else None
    try:
        if made is not None:
            made.mkdir()
    except OSError:
        made = None
    if made is None:
        yield None
        return
    try:
        yield made
    finally:
        (made / "cgroup.kill").write_text("1")
        remove_groups(made)


def remove_groups(group: Path) -> None:
    """Remove a control group with those below, as soon as their processes have ended."""
    for directory, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                break
            except OSError:
                subprocess.run(["sleep", "0.05"], check=True)
            else:
                break


def busybox_root(root: Path) -> Path:
    """Make a root whose only program is busybox, with what it needs."""
    for name in ("bin", "etc", "proc", "sys", "dev", "run", "tmp", "root"):
        (root / name).mkdir(parents=True)
    program = Path(shutil.which("busybox") or "/bin/busybox").resolve()
    listed = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=False).stdout
    for source in re.findall(r"(/\S+)", listed):
        target = root / source.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copy(program, root / "bin/busybox")
    applets = subprocess.run([program, "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return root


def give(root: Path, uid: int) -> None:
    """Give all files of a tree to a user and a group of the same number."""
    subprocess.run(["chown", "-Rh", f"{uid}:{uid}", str(root)], check=True)


def config(root: Path, script: str, more: str = "") -> str:
    """A guest whose init is a shell script."""
    return f"root: {root}\nexec:\n  command: {json.dumps(['/bin/sh', '-ec', script])}\n{more}"
