"""What is left of a disk or file when something fails: nothing of a new file, and an empty disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions import prepare
from bootc_live.landing.disk.partitions.choose import Target
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from bootc_live.system.cleanup.guard import EndedError, run_in_child, unshare_mounts
from tests.lib.disks import run
from tests.lib.partitions import SMALL, chosen, disk_of, fill, make, rows_for

FORMS: Final = ("new file", "old file", "disk")


@contextmanager
def prepared(form: str, path: Path) -> Iterator[str]:
    """A new path, a file or a loop device; the last two hold something."""
    if form == "new file":
        yield str(path)
    elif form == "old file":
        path.write_bytes(b"x")
        os.truncate(path, SMALL)
        yield str(path)
    else:
        with disk_of(path, "--partscan") as device:
            make(chosen(device))
            yield device


def chosen_again(path: str) -> Target:
    return chosen(path, None if path.startswith("/dev/") else SMALL)


def assert_nothing_left(form: str, path: str, image: Path) -> None:
    """The same command works once more, without --wipe, and the disk has no bootable trace."""
    if form == "new file":
        assert list(image.parent.iterdir()) == []
    else:
        with open(path, "rb") as file:
            os.fsync(file)
        assert image.stat().st_size == SMALL
        with image.open("rb") as file:
            assert not any(file.read(MIB))
            file.seek(-MIB, os.SEEK_END)
            assert not any(file.read(MIB))
    if form == "disk":
        name = os.path.basename(path)
        assert [entry for entry in os.listdir(f"/sys/block/{name}") if entry.startswith(name)] == []
    make(chosen_again(path))
    if form == "disk":
        run("partx", "--delete", path)


@pytest.mark.parametrize("form", FORMS)
def test_what_follows_fails(form: str, tmp_path: Path) -> None:
    """An error of the block comes through as it is, even if it has no subject."""
    image = tmp_path / "disk"
    with prepared(form, image) as path:
        target = chosen_again(path)
        with pytest.raises(ImageError, match=r"^it is damaged$"):
            fail(target)
        assert_nothing_left(form, path, image)


def fail(target: Target) -> None:
    with partitioned_disk(target, rows_for(target), wipe=True) as disk:
        fill(disk)
        raise ImageError("it is damaged", hint="none")


# Functions after whose first call the work is killed.
STEPS: Final = {
    "locked": prepare,
    "write_table": prepare,
    "remove_partitions": prepare,
    "add_partition": prepare,
    "loop_device": prepare,
    "make_filesystem": prepare,
    "filled": prepare,
    "verity_problem": prepare,
    "fill": sys.modules[__name__],
    "fsync": os,
}
# Steps that only some have.
ONLY: Final = {"remove_partitions": "disk", "add_partition": "disk", "loop_device": "file"}


@pytest.mark.parametrize(
    ("form", "step"),
    [
        pytest.param(form, step, marks=[pytest.mark.long] if form == "old file" and step != "fill" else [])
        for form in FORMS
        for step in STEPS
        if form.endswith(ONLY.get(step, ""))
    ],
)
def test_killed_at_each_step(form: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL cannot be handled: the parent cleans up."""
    parent, function = os.getpid(), getattr(STEPS[step], step)

    def dying(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def work() -> int:
        unshare_mounts()
        make(chosen_again(path), wipe=True)
        return 0

    def work_in_block() -> int:
        unshare_mounts()
        fail(chosen_again(path))
        return 0

    image = tmp_path / "disk"
    with prepared(form, image) as path:
        with monkeypatch.context() as patched:
            patched.setattr(STEPS[step], step, dying)
            with pytest.raises(EndedError, match="SIGKILL"):
                run_in_child(work_in_block if step == "fill" else work)
        if step == "locked" and form != "new file":
            # Nothing was changed yet.
            make(chosen_again(path), wipe=True)
            run("partx", "--delete", path) if form == "disk" else None
        else:
            assert_nothing_left(form, path, image)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_signals(signal_number: signal.Signals, tmp_path: Path) -> None:
    def work() -> int:
        unshare_mounts()
        target = chosen(tmp_path / "disk", SMALL)
        with partitioned_disk(target, rows_for(target)) as disk:
            fill(disk)
            os.kill(os.getppid(), signal_number)
            signal.pause()
        return 0

    with pytest.raises(EndedError):
        run_in_child(work)
    assert_nothing_left("new file", str(tmp_path / "disk"), tmp_path / "disk")


def test_full_file_system(tmp_path: Path) -> None:
    """A file is sparse, and what is below it may become full only when data is written back: nothing may be lost."""
    there = tmp_path / "there"
    there.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=40M", "small", there)
    try:
        target = chosen(there / "disk", 2 * SMALL)
        with (
            pytest.raises(RunError, match=r"^the disk cannot be written: "),
            partitioned_disk(target, rows_for(target)) as disk,
        ):
            (Path(disk["root"].directory or "") / "file").write_bytes(os.urandom(60 * MIB))
        assert os.listdir(there) == []
    finally:
        run("umount", there)


def test_full_boot_partition(tmp_path: Path) -> None:
    target = chosen(tmp_path / "disk", SMALL)
    with pytest.raises((RunError, OSError)), partitioned_disk(target, rows_for(target)) as disk:
        (Path(disk["ESP"].directory or "") / "large").write_bytes(bytes(65 * MIB))
    assert list(tmp_path.iterdir()) == []


def test_something_still_writes(tmp_path: Path) -> None:
    """The disk would not be whole."""
    target = chosen(tmp_path / "disk", SMALL)
    with contextlib.ExitStack() as stack:
        with pytest.raises(RunError, match="busy"), partitioned_disk(target, rows_for(target)) as disk:
            stack.enter_context((Path(disk["root"].directory or "") / "file").open("wb"))
        assert list(tmp_path.iterdir()) == []


def test_another_file_came_in_the_meantime(tmp_path: Path) -> None:
    target = chosen(tmp_path / "disk", SMALL)
    with pytest.raises(Exception, match="cannot be made: File exists"), partitioned_disk(target, rows_for(target)):
        (tmp_path / "disk").write_text("another")
    assert (tmp_path / "disk").read_text() == "another"
