"""How long a guest waits for its init: from the exec of ours to that of the guest's, beside unshare(1) alone.

Ours is compiled in advance, as in the guest image.
"""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Final

from tests.lib.bench import Figures
from tests.lib.container import FIRST, MAP, busybox_root, give

ROUNDS: Final = 20
UNSHARE: Final = ("unshare", "--pid", "--fork", "--mount", "--mount-proc", "--net", "--uts", "--ipc", "--cgroup")
LIMIT: Final = 0.15


def test_start(figures: Figures, zipapp: Path, repo: Path, tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    program = tmp_path / "program"
    with zipfile.ZipFile(zipapp) as archive:
        archive.extractall(program)
    compiled = [sys.executable, "-s", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(program)]
    subprocess.run(compiled, check=True)
    init = tmp_path / "init"
    text = (repo / "vm/guest/bootc-live").read_text()
    assert "/usr/lib/bootc-live/program" in text
    init.write_text(text.replace("/usr/lib/bootc-live/program", str(program)))
    root = busybox_root(tmp_path / "root")
    give(root, FIRST)
    config = tmp_path / "guest.yml"
    config.write_text(f"root: {root}\nexec: {{command: /bin/true}}\n{MAP}")
    ways = {
        "unshare": [*UNSHARE, "/bin/busybox", "true"],
        "guest": [*UNSHARE, sys.executable, "-ISB", str(init), "--config", str(config)],
    }
    seconds = dict.fromkeys(ways, 60.0)
    for _ in range(ROUNDS):
        for name, argv in ways.items():
            began = time.monotonic()
            subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
            seconds[name] = min(seconds[name], time.monotonic() - began)
    figures.bar("start of a guest, seconds over unshare", seconds["guest"] - seconds["unshare"], LIMIT, least=False)
