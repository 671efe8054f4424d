"""Wheels that the zipapp bundles: reads pyapp/requirements.lock, fetches what it names, renews it.

One fixed target is used whatever Python and machine run this, so every build sees the same files.
Only sources are taken from the wheels; the target matters for PyYAML alone, which publishes no pure wheel.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PYAPP = Path(__file__).resolve().parent
ROOT = PYAPP.parent
WHEELS = ROOT / "build" / "wheels"
PIP_VENV = ROOT / "build" / "pipenv"
REQUIREMENTS = PYAPP / "requirements.in"
LOCK = PYAPP / "requirements.lock"
SHIMS = PYAPP / "shims"

_TARGET = ("--python-version=3.11", "--implementation=cp", "--platform=manylinux2014_x86_64")
_PURE_TARGET = ("--python-version=3.11", "--implementation=py", "--platform=any", "--abi=none")
_LOCK_ENTRY = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)")

# What only a project with a stand-in asks for (jsonschema).
_FOR_SHIMS = frozenset({"attrs", "pyrsistent"})


class BuildError(Exception):
    """The zipapp cannot be built; the text says what failed and what to do."""


@dataclass(frozen=True)
class Pin:
    """One wheel of the lock: project name, version and hexadecimal sha256 of the file."""

    name: str
    version: str
    sha256: str


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parse_lock(text: str) -> tuple[Pin, ...]:
    """The pins of a lock file in its order; raises BuildError unless each line has exactly one hash."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pins = []
    for line in joined.splitlines():
        entry = _LOCK_ENTRY.fullmatch(line.strip())
        hashes = entry["hashes"].split() if entry else []
        if entry is None or len(hashes) != 1:
            raise BuildError(
                f"{LOCK.name}: expected 'name==version --hash=sha256:…' with one hash, got {line!r}; "
                "renew it with: python3 pyapp/wheelhouse.py lock"
            )
        pins.append(Pin(entry["name"], entry["version"], hashes[0].partition("sha256:")[2]))
    return tuple(pins)


def locked_wheels() -> dict[Pin, Path]:
    """The file of every pinned wheel, verified by hash, fetched into build/wheels if missing.

    Raises BuildError when pip cannot be had or cannot deliver a file with the pinned hash.
    """
    pins = parse_lock(LOCK.read_text(encoding="utf-8"))
    found = _cached(pins)
    if len(found) < len(pins):
        _download("--require-hashes", "--no-deps", *_TARGET, "--requirement", str(LOCK), into=WHEELS)
        found = _cached(pins)
    missing = [pin.name for pin in pins if pin not in found]
    if missing:
        raise BuildError(f"pip delivered no wheel with the locked hash for: {', '.join(missing)}")
    return found


def renew_lock() -> None:
    """Resolves requirements.in anew and writes requirements.lock, taking pure wheels where one exists."""
    with tempfile.TemporaryDirectory(prefix="bootc-live-lock-") as scratch:
        resolved, pure = Path(scratch, "resolved"), Path(scratch, "pure")
        _download(*_TARGET, "--requirement", str(REQUIREMENTS), into=resolved)
        pins = []
        for wheel in sorted(resolved.glob("*.whl")):
            name, version = wheel.name.split("-")[:2]
            if (SHIMS / name).is_dir() or name in _FOR_SHIMS:
                continue
            chosen = wheel if wheel.name.endswith("-none-any.whl") else _pure_wheel(name, version, pure) or wheel
            pins.append(Pin(name.replace("_", "-"), version, sha256_of(chosen)))
    header = "# Made by `python3 pyapp/wheelhouse.py lock` from requirements.in; one wheel for each project.\n"
    entries = (f"{pin.name}=={pin.version} \\\n    --hash=sha256:{pin.sha256}\n" for pin in pins)
    LOCK.write_text(header + "".join(entries), encoding="utf-8")


def _cached(pins: tuple[Pin, ...]) -> dict[Pin, Path]:
    by_hash = {sha256_of(path): path for path in sorted(WHEELS.glob("*.whl"))}
    return {pin: by_hash[pin.sha256] for pin in pins if pin.sha256 in by_hash}


def _pure_wheel(name: str, version: str, into: Path) -> Path | None:
    try:
        _download("--no-deps", *_PURE_TARGET, f"{name}=={version}", into=into)
    except BuildError:
        return None
    return next(into.glob(f"{name}-{version}-*.whl"), None)


def _download(*arguments: str, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    argv = [*_pip(), "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    argv += ["--only-binary=:all:", "--dest", str(into), *arguments]
    done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip()[-1500:]
        raise BuildError(f"pip could not fetch the wheels of {REQUIREMENTS.stem}: {' '.join(argv)}\n{reason}")


def _pip() -> list[str]:
    """The command that runs pip: of this Python, else of a virtual environment made for it."""
    for python in (Path(sys.executable), PIP_VENV / "bin" / "python"):
        if python.exists() and _runs(python, "-m", "pip", "--version"):
            return [str(python), "-m", "pip"]
    if not _runs(Path(sys.executable), "-m", "venv", "--clear", str(PIP_VENV)):
        shutil.rmtree(PIP_VENV, ignore_errors=True)
        raise BuildError(f"{sys.executable} has neither pip nor a working venv; on Debian: apt install python3-venv")
    return [str(PIP_VENV / "bin" / "python"), "-m", "pip"]


def _runs(python: Path, *arguments: str) -> bool:
    done = subprocess.run([str(python), *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python3 pyapp/wheelhouse.py lock")
    try:
        renew_lock()
    except BuildError as error:
        sys.exit(f"wheelhouse.py: {error}")
