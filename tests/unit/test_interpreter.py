"""Which Python a dracut module packs: the newest that will do, by whatever name, or the one that was named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lint.tree import REPO

CHOICE = REPO / "modules.d/50bootc-live/bootc-live-python.sh"
SCRIPT = f'dfatal() {{ echo "fatal: $*"; }}; . "{CHOICE}"; bootc_live_python'
# A Python of another version, or without a module, as far as a program given with -c can tell.
FAKE = """#!{python}
import sys
sys.version_info = {version} + ("final", 0)
if {missing!r}: sys.modules[{missing!r}] = None
exec(sys.argv[-1])
"""
EL9 = {"python3": ((3, 9, 18), ""), "python3.9": ((3, 9, 18), "")}
OLD = "{bin}/python3 is 3.9"


def fake(path: Path, version: tuple[int, int, int], missing: str) -> None:
    path.write_text(FAKE.format(python=sys.executable, version=version, missing=missing))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("there", "named", "expected"),
    [
        ({"python3": ((3, 13, 5), "")}, None, "{bin}/python3"),
        ({"python3": ((3, 13, 5), ""), "python3.13": ((3, 13, 5), "")}, None, "{bin}/python3.13"),
        ({**EL9, "python3.12": ((3, 12, 1), "")}, None, "{bin}/python3.12"),
        ({**EL9, "python3.11": ((3, 11, 1), ""), "python3.12": ((3, 12, 1), "")}, None, "{bin}/python3.12"),
        # A part of a Python, as Debian's python3.12-minimal is one, does not do.
        ({"python3.12": ((3, 12, 1), "ctypes"), "python3.11": ((3, 11, 1), "")}, None, "{bin}/python3.11"),
        ({**EL9, "python3.12": ((3, 12, 1), "")}, "{bin}/python3.12", "{bin}/python3.12"),
        ({"python3.13": ((3, 13, 5), ""), "python3.12": ((3, 12, 1), "")}, "python3.12", "{bin}/python3.12"),
        ({"python3.13": ((3, 13, 5), ""), "mine": ((3, 12, 1), "")}, "{bin}/mine", "{bin}/mine"),
        ({"python3.13": ((3, 13, 5), ""), "my own": ((3, 12, 1), "")}, "{bin}/my own", "{bin}/my own"),
        ({"python3.13": ((3, 13, 5), ""), "*": ((3, 12, 1), "")}, "{bin}/*", "{bin}/*"),
        ({"python3": ((3, 13, 5), "")}, "python3 -E", "BOOTC_LIVE_PYTHON=python3 -E is not a Python 3.11 or later"),
        (
            EL9,
            None,
            f"fatal: bootc-live: no Python 3.11 or later was found ({OLD}): install the package python3, on EL9",
        ),
        (
            {**EL9, "python3.12": ((3, 12, 1), "lzma")},
            None,
            f"no Python 3.11 or later was found ({{bin}}/python3.12 lacks lzma, {OLD}): install",
        ),
        ({}, None, "fatal: bootc-live: no Python 3.11 or later was found (no Python): install the package python3"),
        # What was named is not replaced.
        (
            {**EL9, "python3.12": ((3, 12, 1), "")},
            "python3",
            f"BOOTC_LIVE_PYTHON=python3 is not a Python 3.11 or later ({OLD})",
        ),
        (
            {"python3": ((3, 13, 5), "")},
            "/nowhere/python",
            "BOOTC_LIVE_PYTHON=/nowhere/python is not a Python 3.11 or later",
        ),
    ],
)
def test_interpreter(
    tmp_path: Path, there: dict[str, tuple[tuple[int, int, int], str]], named: str | None, expected: str
) -> None:
    for name, (version, missing) in there.items():
        fake(tmp_path / name, version, missing)
    (tmp_path / "seq").symlink_to(shutil.which("seq") or "/usr/bin/seq")
    environment = {"PATH": str(tmp_path)}
    if named is not None:
        environment["BOOTC_LIVE_PYTHON"] = named.format(bin=tmp_path)
    shell = shutil.which("sh") or "/bin/sh"
    done = subprocess.run([shell, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    said, expected = done.stdout.strip(), expected.format(bin=tmp_path)
    assert done.stderr == ""
    if "Python" in expected:
        assert expected in said
        assert done.returncode == 1
    else:
        assert (said, done.returncode) == (expected, 0)
