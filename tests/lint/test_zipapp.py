"""The zipapp: sources only, the same bytes from every Python, and runs under each of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.lint.tree import REPO

BUILDER = REPO / "vm" / "out" / "roots" / "builder" / ".vm-root"
_ASK = "import sys; print(sys.executable, sys.version_info >= (3, 11), *sys.version_info[:3])"


@cache
def pythons() -> dict[str, tuple[str, ...]]:
    """Commands for every Python 3.11 or newer of this machine and of the builder root, one for each version."""
    names = ["python3", *(f"python3.{minor}" for minor in range(11, 20))]
    commands: list[tuple[str, ...]] = [(sys.executable,), ("/usr/bin/python3",), *((name,) for name in names)]
    commands += [(str(path),) for path in Path.home().glob(".pyenv/versions/3.*/bin/python3")]
    if BUILDER.exists() and os.geteuid() == 0:
        commands.append((str(REPO / "vm" / "enter"), "builder", "python3"))
    found: dict[str, tuple[str, ...]] = {}
    for command in commands:
        try:
            done = subprocess.run([*command, "-c", _ASK], check=True, capture_output=True, text=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            continue
        _, recent, *version = done.stdout.split()
        if recent == "True":
            found.setdefault(".".join(version), command)
    return found


def _environment(**changes: str) -> dict[str, str]:
    """This process's environment without what steers Python; `changes` added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | changes


def _build(command: tuple[str, ...], output: Path, **environment: str) -> bytes:
    argv = [*command, str(REPO / "pyapp" / "build_zipapp.py"), "--output", str(output)]
    subprocess.run(argv, env=_environment(**environment), cwd=REPO, check=True, capture_output=True)
    return output.read_bytes()


@pytest.fixture
def shared_tmp() -> Iterator[Path]:
    """A directory that this machine and the builder root both see."""
    with tempfile.TemporaryDirectory(dir=REPO / "build", prefix="lint-") as path:
        yield Path(path)


def test_same_bytes_everywhere(zipapp: Path, shared_tmp: Path) -> None:
    expected = zipapp.read_bytes()
    for version, command in pythons().items():
        assert _build(command, shared_tmp / f"{version}.pyz") == expected, f"Python {version} builds another zip"


def test_same_bytes_whatever_the_environment(zipapp: Path, shared_tmp: Path) -> None:
    command = ("sh", "-c", 'umask 077 && exec "$@"', "sh", sys.executable)
    built = _build(command, shared_tmp / "a.pyz", PYTHONHASHSEED="7", TZ="Asia/Kolkata", LC_ALL="C")
    assert built == zipapp.read_bytes()
    assert (shared_tmp / "a.pyz").stat().st_mode & 0o777 == 0o755


def test_second_build_writes_nothing(shared_tmp: Path) -> None:
    output = shared_tmp / "a.pyz"
    _build((sys.executable,), output)
    before = output.stat()
    _build((sys.executable,), output)
    assert (output.stat().st_mtime_ns, output.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_damaged_output_is_rebuilt(zipapp: Path, shared_tmp: Path) -> None:
    output = shared_tmp / "a.pyz"
    _build((sys.executable,), output)
    output.write_bytes(output.read_bytes()[:1000])
    assert _build((sys.executable,), output) == zipapp.read_bytes()


def test_holds_sources_only(zipapp: Path) -> None:
    with zipfile.ZipFile(zipapp) as archive:
        members = archive.infolist()
        compiled = [member.filename for member in members if archive.read(member).startswith(b"\x7fELF")]
    suffixes = {Path(member.filename).suffix for member in members if not member.filename.startswith("licenses/")}
    assert compiled == []
    assert suffixes & {".so", ".pyd", ".pyc", ".dll", ".a"} == set()
    assert all(member.compress_type == zipfile.ZIP_STORED for member in members)
    assert [member.filename for member in members] == sorted({member.filename for member in members})


def test_holds_a_licence_of_every_dependency(zipapp: Path) -> None:
    lock = (REPO / "pyapp" / "requirements.lock").read_text()
    locked = {line.split()[0].replace("==", "-") for line in lock.splitlines() if "==" in line}
    with zipfile.ZipFile(zipapp) as archive:
        licensed = {name.split("/")[1] for name in archive.namelist() if name.startswith("licenses/")}
    assert locked
    assert licensed == locked


@pytest.mark.parametrize("version", sorted(pythons()))
def test_imports_leave_nothing_behind(zipapp: Path, tmp_path: Path, version: str) -> None:
    """Neither a temporary file (a CA bundle copied out of the zip) nor a warning."""
    code = "import oras.provider, requests, yaml; print(requests.certs.where()); assert not yaml.__with_libyaml__"
    command = pythons()[version]
    if command[0].endswith("vm/enter"):
        command = (*command[:-1], "env", f"PYTHONPATH={zipapp}", *command[-1:])
    environment = _environment(PYTHONPATH=str(zipapp), TMPDIR=str(tmp_path), SSL_CERT_FILE="/nonexistent/ca.pem")
    argv = [*command, "-W", "error", "-c", code]
    done = subprocess.run(argv, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "/nonexistent/ca.pem"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", sorted(pythons()))
def test_runs(zipapp: Path, version: str) -> None:
    argv = [*pythons()[version], str(zipapp), "--version"]
    done = subprocess.run(argv, env=_environment(), cwd=REPO, check=True, capture_output=True, text=True)
    assert done.stdout.strip()


def test_refuses_an_old_python(zipapp: Path) -> None:
    """The start script must be readable for a Python that cannot run the rest."""
    with zipfile.ZipFile(zipapp) as archive:
        start = archive.read("__main__.py").decode()
    old = f"import sys; sys.version_info = (3, 9, 2)\n{start}"
    done = subprocess.run([sys.executable, "-c", old], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
