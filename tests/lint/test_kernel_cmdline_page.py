"""kernel-cmdline.md says what the table of kernel arguments says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_page_is_current(repo: Path, zipapp: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{repo / 'pyapp'}:{zipapp}"}
    argv = [sys.executable, "-m", "bootc_live", "kargs", "--markdown"]
    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    page = (repo / "kernel-cmdline.md").read_text(encoding="utf-8")
    assert page == done.stdout, "renew it: PYTHONPATH=pyapp python3 -m bootc_live kargs --markdown >kernel-cmdline.md"
