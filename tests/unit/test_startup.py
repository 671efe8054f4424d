"""A quick start: what needs no network loads no network code, and nothing else that it can do without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NETWORK = {
    "_socket",
    "_ssl",
    "asyncio",
    "certifi",
    "charset_normalizer",
    "email",
    "ftplib",
    "http",
    "idna",
    "jsonschema",
    "oras",
    "requests",
    "socket",
    "ssl",
    "urllib",
    "urllib3",
    "yaml",
}
VERBS = {
    "version": ["--version"],
    "help": ["--help"],
    "kargs": ["kargs"],
    "kargs-checked": ["kargs", "root=bootc-live:docker://a.example/b rw"],
    "status": ["status", "--receipt", "missing.json"],
    "inspect": ["inspect", "image.oci"],
    "estimate": ["estimate", "image.oci"],
}


def run(zipapp: Path, where: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The zipapp under an isolated interpreter that reports what it imports."""
    command = [sys.executable, "-I", "-S", "-X", "importtime", str(zipapp), *argv]
    environment = {"PATH": os.defpath}
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)


def imported(stderr: str) -> set[str]:
    """Names of the modules in the report of -X importtime."""
    lines = (line for line in stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in lines} - {"imported package"}


@pytest.fixture
def where(tmp_path: Path) -> Path:
    write_archive(tmp_path / "image.oci", Image([Layer(layer(file("a", "x")))], architecture=HERE))
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_no_network_code(zipapp: Path, where: Path, verb: str) -> None:
    done = run(zipapp, where, *VERBS[verb])
    assert done.returncode == (1 if verb == "status" else 0), done.stderr
    names = imported(done.stderr)
    assert "bootc_live" in names
    assert {name for name in names if name.partition(".")[0] in NETWORK} == set()


def test_a_boot_from_an_archive_loads_none_either(zipapp: Path, where: Path) -> None:
    """Seen up to the point where it stops, with every stage imported, because there is no such archive."""
    cmdline = f"root=bootc-live:{where}/missing.oci"
    done = run(zipapp, where, "boot", "--cmdline", cmdline, "--workdir", str(where))
    assert done.returncode == 1
    names = imported(done.stderr)
    assert {
        "bootc_live.source.archive.layout",
        "bootc_live.rootfs.layouts.erofs.writer",
        "bootc_live.landing.sysroot.sysroot",
    } <= names
    assert {name for name in names if name.partition(".")[0] in NETWORK} == set()
    assert sorted(path.name for path in where.iterdir()) == ["image.oci"]


def test_a_registry_does_load_it(zipapp: Path, where: Path) -> None:
    """So that the tests above can fail."""
    done = run(zipapp, where, "inspect", "docker://127.0.0.1:1/os")
    assert done.returncode == 1
    names = imported(done.stderr)
    assert {"requests", "oras", "socket", "ssl"} <= names


@pytest.mark.parametrize(("before", "status"), [("", -signal.SIGINT), ("trap '' INT; ", 3)], ids=["", "ignored"])
def test_an_early_interrupt_ends_it_without_a_traceback(before: str, status: int, zipapp: Path, tmp_path: Path) -> None:
    """While modules are imported, of which this is one of the first."""
    (tmp_path / "traceback.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nos._exit(3)\n")
    argv = ["sh", "-c", f'{before}exec "$@"', "sh", sys.executable, str(zipapp), "--version"]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("argv", [["--version"], ["kargs"]])
def test_verbs_load_only_their_own_stages(zipapp: Path, where: Path, argv: list[str]) -> None:
    names = {name for name in imported(run(zipapp, where, *argv).stderr) if name.startswith("bootc_live.")}
    stages = {name.split(".")[1] for name in names} - {"__main__"}
    assert stages <= {"base", "formats", "system", "cli", "config"}
