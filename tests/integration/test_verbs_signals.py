"""A boot that somebody ends leaves nothing behind, wherever it just was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.faults import BLOBS, EVERYTHING, MANIFESTS, MIB, End, Fault, Rule
from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.program import ERROR, Program
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


def wait_for(faulty: FaultServer, where: str, sent: int, log: Path) -> None:
    """Wait until the server has sent so many bytes, and stands still; mostly, the verb waits for more by then."""
    deadline = time.monotonic() + SECONDS
    while not faulty.asked(where) or faulty.sent(where) < sent:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    time.sleep(0.2)


# The config is the first of the blobs.
LAYER = Rule(BLOBS, Fault(after=MIB, end=End.SILENCE), times=None, each=False, spared=1)


@pytest.mark.parametrize(
    ("verb", "rule", "sent", "number"),
    [
        ("boot", LAYER, MIB, signal.SIGTERM),
        ("boot", Rule(MANIFESTS, Fault(after=100, end=End.SILENCE)), 100, signal.SIGHUP),
        ("unpack", Rule(EVERYTHING, Fault(silent=True)), 0, signal.SIGINT),
    ],
    ids=["layer", "manifest", "first answer"],
)
def test_while_fetching(
    verb: str, rule: Rule, sent: int, number: signal.Signals, served: Registry, spawned: Program, tmp_path: Path
) -> None:
    """The registry stops talking in the middle of something."""
    log = tmp_path / "log"
    with (
        fault_proxy(served, rule) as faulty,
        spawned.started(*verb_command(verb, faulty.source("os:latest"), tmp_path), log=log) as process,
    ):
        wait_for(faulty, rule.where, sent, log)
        process.send_signal(number)
        assert_interrupted(process, log, tmp_path)


def test_twice(served: Registry, spawned: Program, tmp_path: Path) -> None:
    """An impatient second signal does not break off the cleaning up after the first."""
    log = tmp_path / "log"
    with (
        fault_proxy(served, LAYER) as faulty,
        spawned.started(*verb_command("boot", faulty.source("os:latest"), tmp_path), log=log) as process,
    ):
        wait_for(faulty, BLOBS, MIB, log)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert_interrupted(process, log, tmp_path)
