"""A boot that somebody ends leaves nothing behind, wherever it just was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.corpus.bomb import bomb
from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.private_mounts import workspaces
from tests.lib.program import ERROR, Program
from tests.lib.proxy import Then, limiting
from tests.lib.registry import Registry, registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import file, layer

INTERRUPTED = f"{ERROR}interrupted\n"
SECONDS = 120


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that holds an image with a large layer."""
    where = tmp_path_factory.mktemp("registry")
    big = Layer(layer(file("big", os.urandom(2**22) * 4)), "none")
    layout = write_layout(where / "layout", Image([Layer(BASE), big, Layer(UPPER)], architecture=HERE))
    with registry(where / "registry") as running:
        running.put(layout, "os", "latest")
        yield running


def verb_command(verb: str, source: str, where: Path, kargs: str = "") -> list[str]:
    """A boot or an unpack below `where`."""
    target = where / "root"
    target.mkdir(exist_ok=True)
    if verb == "unpack":
        return ["unpack", "--unsecure", source, str(target)]
    cmdline = f"root=bootc-live:{source} bootc.registry.unsecure {kargs}"
    return ["boot", "--cmdline", cmdline, "--sysroot", str(target), "--receipt", str(where / "receipt.json")]


def assert_interrupted(process: subprocess.Popen[bytes], log: Path, where: Path) -> None:
    """Checks the end of a verb: with one message, and nothing made."""
    status = process.wait(SECONDS)
    told = log.read_text()
    assert status == 1, f"exit status {status}:\n{told}"
    assert told.count(ERROR) == 1, told
    assert INTERRUPTED in told
    assert "Traceback" not in told
    assert list((where / "root").iterdir()) == []
    assert not (where / "receipt.json").exists()


@pytest.mark.parametrize(
    ("verb", "limit", "number"),
    [
        ("boot", 5_000_000, signal.SIGTERM),
        ("boot", 3_000, signal.SIGHUP),
        ("unpack", 0, signal.SIGINT),
    ],
    ids=["layer", "manifest", "first answer"],
)
def test_while_fetching(
    verb: str, limit: int, number: signal.Signals, served: Registry, spawned: Program, tmp_path: Path
) -> None:
    """The registry stops talking in the middle of something."""
    log = tmp_path / "log"
    with limiting(served.port, limit, Then.STALL) as proxy:
        source = f"docker://127.0.0.1:{proxy.port}/os:latest"
        with spawned.started(*verb_command(verb, source, tmp_path), log=log) as process:
            assert proxy.passed.wait(SECONDS), log.read_text()
            # Mostly, it has begun to wait for more bytes by then.
            time.sleep(0.2)
            process.send_signal(number)
            assert_interrupted(process, log, tmp_path)


def test_while_inflating(spawned: Program, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.oci", bomb("gzip"))
    log = tmp_path / "log"
    with spawned.started(*verb_command("boot", str(archive), tmp_path), log=log) as process:
        deadline = time.monotonic() + SECONDS
        while not any(path.stat().st_blocks > 2**11 for path in workspaces(process.pid)):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        assert_interrupted(process, log, tmp_path)


def test_twice(served: Registry, spawned: Program, tmp_path: Path) -> None:
    """An impatient second signal does not break off the cleaning up after the first."""
    log = tmp_path / "log"
    with limiting(served.port, 5_000_000, Then.STALL) as proxy:
        source = f"docker://127.0.0.1:{proxy.port}/os:latest"
        with spawned.started(*verb_command("boot", source, tmp_path), log=log) as process:
            assert proxy.passed.wait(SECONDS), log.read_text()
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            assert_interrupted(process, log, tmp_path)
