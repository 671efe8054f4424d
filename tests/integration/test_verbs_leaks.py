"""The check that nothing is left behind sees each kind of thing, and only what is still there after a while."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.lib.leaks import left_behind, nothing_left, settled, snapshot


@contextmanager
def a_mount(where: Path) -> Iterator[str]:
    subprocess.run(["mount", "-t", "tmpfs", "ours", where], check=True)
    try:
        yield f"mounts: ours (tmpfs) on {where}, number "
    finally:
        subprocess.run(["umount", where], check=True)


@contextmanager
def a_loop(where: Path) -> Iterator[str]:
    backing = where / "backing"
    backing.write_bytes(bytes(4096))
    command = ["losetup", "--find", "--show", str(backing)]
    device = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        yield f"loops: {os.path.basename(device)}, attachment "
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def a_process(where: Path) -> Iterator[str]:
    # Its parent ends at once: it is nobody's child any more.
    subprocess.run(["sh", "-c", "sleep 600 & echo $! >pid"], cwd=where, check=True)
    pid = int((where / "pid").read_text())
    command = Path(f"/proc/{pid}/cmdline")
    while command.read_bytes() != b"sleep\x00600\x00":
        # It is a shell still.
        time.sleep(0.01)
    try:
        yield f"processes: sleep 600, number {pid}, of "
    finally:
        os.kill(pid, 9)


@contextmanager
def a_file(where: Path) -> Iterator[str]:
    where.joinpath("bootc-live.xyz").touch()
    yield f"files: {where}/bootc-live.xyz"
    where.joinpath("bootc-live.xyz").unlink()


Maker = Callable[[Path], AbstractContextManager[str]]


@pytest.mark.parametrize("make", [a_mount, a_loop, a_process, a_file])
def test_sees(make: Maker, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    with make(tmp_path) as name:
        found = settled(tmp_path, before, 0.2)
        # All of the machine has the same loop devices.
        ours = [line for line in found if not line.startswith("loops: ") or str(tmp_path) in line]
        assert len(ours) == 1, found
        assert ours[0].startswith(name)
    assert settled(tmp_path, before) == []


def test_fails_a_test(tmp_path: Path) -> None:
    stray = Path(tempfile.gettempdir(), "bootc-live.stray")
    with pytest.raises(AssertionError, match=f"left behind:\n(.*\n)*files: {stray}"), nothing_left(tmp_path, 0.2):
        stray.touch()
    stray.unlink()


def test_waits_for_what_goes(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    late = tmp_path / "bootc-live.late"
    late.touch()
    assert left_behind(before, snapshot(tmp_path)) != []
    timer = threading.Timer(0.3, late.unlink)
    timer.start()
    assert settled(tmp_path, before) == []
    timer.join()
