"""Mounts of its own for the work, also where the root directory is no mount point, as in many a chroot(2)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Two mounts on each other, both shared, at a name with white space.
PREPARE = r"""
set -e
mount --make-rprivate /
mkdir -p "$1/proc" "$1/a b\c"
mount --bind /proc "$1/proc"
for number in 1 2; do
	mount -t tmpfs "t$number" "$1/a b\c"
	mount --make-shared "$1/a b\c"
done
[ "$2" = directory ] || mount --rbind "$1" "$1"
[ "$2" = directory ] || mount --make-shared "$1"
shift 2
exec "$@"
"""
WORK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from bootc_live.system.cleanup.guard import unshare_mounts
os.chroot(sys.argv[2])
os.chdir("/")
unshare_mounts()
print(open("/proc/self/mountinfo").read())
"""


@pytest.mark.parametrize("root", ["directory", "mount point"])
def test_nobody_else_sees_them(root: str, repo: Path, tmp_path: Path) -> None:
    work = [sys.executable, "-c", WORK, str(repo / "pyapp"), str(tmp_path)]
    argv = ["unshare", "--mount", "sh", "-c", PREPARE, "sh", str(tmp_path), root, *work]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ") for line in done.stdout.splitlines() if line]
    shared = {line[4] for line in lines if any(word.startswith("shared:") for word in line)}
    if root == "directory":
        # What is mounted over is out of reach.
        assert [line[6] == "-" for line in lines if line[4] == r"/a\040b\134c"] == [False, True]
        assert shared == {r"/a\040b\134c"}
    else:
        assert "/" in {line[4] for line in lines}
        assert shared == set()
