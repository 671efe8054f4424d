"""The rest of the base: errors, sizes, memory, progress, loop devices, mount points."""

from __future__ import annotations

import fcntl
import inspect
import mmap
import os
import tempfile
import time
from pathlib import Path

import pytest

from bootc_live.base import errors
from bootc_live.base.errors import BootcLiveError, RunError
from bootc_live.base.log import Progress, Recorder
from bootc_live.base.units import mib
from bootc_live.system import memory
from bootc_live.system.devices import loop
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.memory import available_bytes, peak_memory, process_bytes, total_bytes
from bootc_live.system.mounts import is_mount_point, kind_at
from tests.lib.threads import no_thread_left

MIB = 2**20
MEMINFO = """\
MemTotal:        2031628 kB
MemFree:          123456 kB
MemAvailable:    1048576 kB
Buffers:           20480 kB
"""


def test_one_tree_of_errors() -> None:
    found = inspect.getmembers(errors, inspect.isclass)
    classes = [value for _, value in found if value.__module__ == errors.__name__]
    assert len(classes) == 11
    assert all(issubclass(value, BootcLiveError) for value in classes)


def test_an_error_has_both_parts() -> None:
    error = errors.SourceError("what failed", hint="what to do")
    assert (str(error), error.message, error.hint) == ("what failed", "what failed", "what to do")
    with pytest.raises(TypeError):
        errors.SourceError("no hint")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 KiB"), (1, "1 KiB"), (MIB - 1, "1024 KiB"), (MIB, "1.0 MiB"), (374_236_774, "356.9 MiB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert mib(count) == text


def test_meminfo(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text(MEMINFO)
    assert available_bytes(str(path)) == 1024 * MIB
    path.write_text(MEMINFO.replace("MemAvailable", "MemOther"))
    assert available_bytes(str(path)) == 0
    assert available_bytes("/nonexistent") == 0


def test_taken_is_what_processes_tmpfs_and_zram_hold(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text(
        "MemTotal: 9 kB\nAnonPages:  5 kB\nAnonHugePages: 4 kB\nMapped: 3 kB\nShmem:  2 kB\nShmemHugePages: 1 kB\n"
    )
    zram = tmp_path / "vmstat"
    zram.write_text("nr_free_pages 5\nnr_zspages 3\nnr_zspages_other 9\n")
    assert process_bytes(str(path), str(zram)) == 7 * 1024 + 3 * mmap.PAGESIZE


def test_real_meminfo() -> None:
    assert total_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_bytes() < total_bytes()


def test_peak_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([100, 200, 800, 300])
    monkeypatch.setattr(memory, "process_bytes", lambda: next(taken, 150))
    monkeypatch.setattr(memory, "_INTERVAL", 0.001)
    with peak_memory() as peak:
        while peak.used < 700:
            time.sleep(0.001)
    assert peak.used == 700


def test_peak_memory_stops_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_INTERVAL", 0.001)
    with no_thread_left(), pytest.raises(RuntimeError), peak_memory():
        raise RuntimeError


def progress(total: int, done: int = 0, interval: float = 2.0) -> Progress:
    made = Progress(Recorder(quiet=True), "fetch", total, interval)
    made._start = made._last = 100.0
    made.done = done
    return made


@pytest.mark.parametrize(
    ("total", "done", "seconds", "line"),
    [
        (100 * MIB, 25 * MIB, 5, "fetch: 25 % of 100.0 MiB, 5.0 MiB/s, 15 s left"),
        (100 * MIB, 100 * MIB, 50, "fetch: 100 % of 100.0 MiB, 2.0 MiB/s, 0 s left"),
        (100 * MIB, 0, 10, "fetch: 0 % of 100.0 MiB, 0.0 MiB/s, 104857600 s left"),
        (100 * MIB, 200 * MIB, 10, "fetch: 100 % of 100.0 MiB, 20.0 MiB/s, 0 s left"),
        (3, 2, 1, "fetch: 66 % of 1 KiB, 0.0 MiB/s, 0 s left"),
        (0, 25 * MIB, 5, "fetch: 25 MiB, 5.0 MiB/s"),
        (100 * MIB, MIB, 0, "fetch: 1 % of 100.0 MiB, 1000000.0 MiB/s, 0 s left"),
    ],
)
def test_progress_line(total: int, done: int, seconds: float, line: str) -> None:
    assert progress(total, done).line(100.0 + seconds) == line


def test_progress_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = Progress(Recorder(), "fetch", 100 * MIB)
    for second in range(1, 11):
        now = 100.0 + second
        made.add(10 * MIB)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"bootc-live: fetch: {percent} % of 100.0 MiB, 10.0 MiB/s, {left} s left"
        for percent, left in ((20, 8), (40, 6), (60, 4), (80, 2), (100, 0))
    ]


def test_quiet_hides_progress_and_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(quiet=True)
    with recorder.phase("a", "doing a"):
        recorder.say("progress")
    recorder.warn("danger")
    assert capsys.readouterr().err == "bootc-live: warning: danger\n"
    assert recorder.warnings == ["danger"]


def test_phases_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.5, 10.0, 10.25, 20.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    recorder = Recorder()
    for name in ("a", "b", "a"):
        with recorder.phase(name, f"doing {name}"):
            pass
    assert recorder.phases == {"a": 2.5, "b": 0.25}
    assert capsys.readouterr().err.splitlines() == [f"bootc-live: doing {name}" for name in "aba"]


def test_a_failed_phase_is_timed_too() -> None:
    recorder = Recorder(quiet=True)
    with pytest.raises(RuntimeError), recorder.phase("a", "doing a"):
        raise RuntimeError
    assert "a" in recorder.phases


def test_loop_structures_have_the_kernel_s_sizes() -> None:
    """Struct loop_config of linux/loop.h: two words, loop_info64 of 232 bytes, eight reserved quadwords."""
    assert loop._CONFIG.size == 4 + 4 + 232 + 8 * 8
    packed = loop._CONFIG.pack(7, 512, 0x1000, 0x2000, 5, b"name")
    assert packed[:8] == b"\7\0\0\0\0\2\0\0"
    # lo_offset and lo_sizelimit after three quadwords of loop_info64.
    assert packed[8 + 24 : 8 + 40] == (0x1000).to_bytes(8, "little") + (0x2000).to_bytes(8, "little")
    # lo_flags after five quadwords and three words of loop_info64, lo_file_name right behind it.
    at = 8 + 5 * 8 + 3 * 4
    assert packed[at : at + 4] == b"\5\0\0\0"
    assert packed[at + 4 : at + 8] == b"name"
    assert packed[at + 4 + 64 :] == bytes(112 + 64)


def test_loop_without_a_kernel_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/null answers no loop ioctl."""
    monkeypatch.setattr(loop, "_CONTROL", "/dev/null")
    with tempfile.TemporaryFile() as file, pytest.raises(RunError, match="cannot use loop devices"):
        loop_device(file.fileno(), "x", 512).__enter__()


def test_loop_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    monkeypatch.setattr(loop, "_attach", lambda *_: tries.append(1))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with tempfile.TemporaryFile() as file, pytest.raises(RunError, match="no free loop device"):
        loop_device(file.fileno(), "x", 512).__enter__()
    assert len(tries) == 50


def test_loop_ioctl_numbers() -> None:
    assert (loop._GET_FREE, loop._CONFIGURE) == (0x4C82, 0x4C0A)
    assert hasattr(fcntl, "ioctl")


MOUNTINFO = r"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:20 / /proc rw - proc proc rw
31 22 0:21 / /mnt/a\040b rw - tmpfs tmpfs rw
32 22 0:22 / /mnt/back\134slash rw - tmpfs tmpfs rw
33 22 0:23 / /mnt/tab\011new\012line rw - tmpfs tmpfs rw
34 22 0:24 /sub /mnt/déjà rw master:5 - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/", True),
        ("/proc", True),
        ("/proc/", True),
        ("/proc/../proc", True),
        ("/mnt/a b", True),
        ("/mnt/back\\slash", True),
        ("/mnt/tab\tnew\nline", True),
        ("/mnt/déjà", True),
        ("/mnt", False),
        ("/mnt/a\\040b", False),
        ("/pro", False),
        ("/proc/self", False),
    ],
)
def test_mount_points(tmp_path: Path, path: str, mounted: bool) -> None:
    info = tmp_path / "mountinfo"
    info.write_text(MOUNTINFO)
    assert is_mount_point(path, str(info)) is mounted


def test_kind_of_the_topmost_mount(tmp_path: Path) -> None:
    info = tmp_path / "mountinfo"
    above = "36 22 254:1 / /mnt/déjà rw,relatime shared:7 master:5 - ext4 /dev/- rw\n"
    info.write_text(MOUNTINFO + above)
    assert [kind_at(path, str(info)) for path in ("/mnt/déjà", "/mnt/a b", "/mnt")] == ["ext4", "tmpfs", None]


def test_real_mount_points(tmp_path: Path) -> None:
    assert is_mount_point("/proc")
    assert not is_mount_point(str(tmp_path))
