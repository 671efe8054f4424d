"""File systems in RAM: what is asked for is what the kernel makes, what it cannot make is told, and nothing stays."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.errors import OutOfMemoryError, RootfsError, RunError
from bootc_live.config.model import Backing, Zram
from bootc_live.rootfs.ram import RamFs, ram_filesystem, settle
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.system.devices.zram import zram_below
from bootc_live.system.memory import available_bytes
from tests.lib.zram import Device, Made, device, watched

MIB = 2**20
LETTERS = b"compressible data of some lines\n"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """The zram devices of a test; none of them may outlive it."""
    with watched(monkeypatch) as devices:
        yield devices
    assert all(each.gone() for each in devices.devices)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A place to mount something."""
    (tmp_path / "mnt").mkdir()
    return tmp_path / "mnt"


def text(size: int) -> bytes:
    """Data that compresses well, but not to nothing."""
    return b"".join(b"%d %s" % (number, LETTERS) for number in range(size // 38))[:size]


def options(where: Path) -> tuple[str, set[str]]:
    """Type and options, of mount and file system, of what is mounted at a place."""
    argv = ["findmnt", "-n", "-r", "-o", "FSTYPE,OPTIONS,VFS-OPTIONS", str(where)]
    kind, *given = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return kind, {option for part in given for option in part.split(",")}


@contextmanager
def on_zram(where: Path, size: int, limit: int | None = None, **changes: object) -> Iterator[Device]:
    """A file system on a new zram device; gives the device."""
    spec = RamFs(limit, zram=Zram(size, **changes))  # type: ignore[arg-type]
    with ram_filesystem(spec, str(where)):
        found = zram_below(str(where))
        assert found is not None
        yield device(found)


def memory_used(found: Device) -> tuple[int, int]:
    """Bytes of data in a device, and the memory that they use (mm_stat)."""
    fields = found.read("mm_stat").split()
    return int(fields[0]), int(fields[2])


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        (RamFs(None), {"rw"}),
        (RamFs(64 * MIB, mode=0o700), {"size=65536k", "nr_inodes=65536", "mode=700"}),
        (RamFs(4 * 2**30), {"size=4194304k", "nr_inodes=1048576"}),
        (RamFs(MIB, huge="within_size"), {"size=1024k", "huge=within_size"}),
        (RamFs(None, mpol="interleave"), {"mpol=interleave:0"}),
        (RamFs(8 * MIB, huge="always", mpol="bind=static:0,0"), {"size=8192k", "huge=always", "mpol=bind=static:0"}),
    ],
)
def test_tmpfs(spec: RamFs, given: set[str], where: Path) -> None:
    with ram_filesystem(spec, str(where)) as place:
        kind, found = options(where)
        assert (kind, place) == ("tmpfs", str(where))
        assert given <= found
        assert not found & {"nosuid", "nodev", "noexec"}
        settle(place)
    assert not where.is_mount()


@pytest.mark.parametrize(
    ("spec", "source_text"),
    [
        (RamFs(None, mpol="bind:1023"), "'bootc.live.mpol=bind:1023'"),
        (RamFs(None, huge="some_times"), "'bootc.live.huge=some.times'"),
        (RamFs(MIB, huge="x", mpol="local"), "'bootc.live.huge=x' and 'bootc.live.mpol=local'"),
    ],
)
def test_tmpfs_that_the_kernel_refuses(spec: RamFs, source_text: str, where: Path) -> None:
    with pytest.raises(RootfsError) as caught, ram_filesystem(spec, str(where)):
        pytest.fail("it was mounted")
    assert caught.value.message.startswith(f"the kernel refuses a tmpfs with {source_text}: mount exited with 32")
    assert not where.is_mount()


def test_zram(made: Made, where: Path) -> None:
    with on_zram(where, 256 * MIB) as found:
        assert made.devices == [found]
        kind, given = options(where)
        assert kind == "ext4"
        assert {"sync", "discard", "noatime"} <= given
        assert not given & {"nosuid", "nodev", "noexec"}
        assert found.read("disksize") == str(256 * MIB)
        assert list(where.iterdir()) == []
        assert where.stat().st_mode & 0o7777 == 0o755
        # Room for a tree of many small files; all that describes it takes no memory yet.
        usage = os.statvfs(where)
        assert usage.f_ffree > 65000
        assert usage.f_bavail * usage.f_frsize > 0.9 * 256 * MIB
        assert memory_used(found)[1] < MIB // 2
    assert made.none_left()
    assert not where.is_mount()


def test_what_was_written_is_there(where: Path, made: Made) -> None:
    data = text(32 * MIB)
    with on_zram(where, 256 * MIB) as found:
        (where / "data").write_bytes(data)
        settle(str(where))
        held, memory = memory_used(found)
        assert 32 * MIB <= held < 33 * MIB
        assert memory < 16 * MIB
        with (where / "data").open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == data
        (where / "data").unlink()
        settle(str(where))
        assert memory_used(found)[1] < MIB
    assert made.none_left()


@pytest.mark.parametrize("algorithm", ["", "lzo"])
def test_algorithm(algorithm: str, where: Path, made: Made) -> None:
    with on_zram(where, 64 * MIB, algorithm=algorithm) as found:
        assert f"[{algorithm}" in found.read("comp_algorithm")
    assert made.none_left()


def test_no_such_algorithm(where: Path, made: Made) -> None:
    with pytest.raises(RunError) as caught, on_zram(where, 64 * MIB, algorithm="shrink"):
        pytest.fail("it was mounted")
    assert "algorithm 'shrink'; it has " in caught.value.message
    assert "lz4" in caught.value.message
    assert "[" not in caught.value.message
    assert made.none_left()


def test_level(where: Path, made: Made) -> None:
    """For lz4 a higher one is faster, and makes it less small."""
    data, used = text(8 * MIB) + os.urandom(MIB), []
    for level in (1, 60):
        with on_zram(where, 64 * MIB, algorithm="lz4", level=level) as found:
            (where / "data").write_bytes(data)
            used.append(int(found.read("mm_stat").split()[1]))
    assert used[0] < used[1]
    assert made.none_left()


@pytest.mark.parametrize("size", [4096, 2**60])
def test_sizes_that_make_no_sense(size: int, where: Path, made: Made) -> None:
    with pytest.raises((RootfsError, OutOfMemoryError), match="zram device of "), on_zram(where, size):
        pytest.fail("it was mounted")
    assert made.none_left()
    assert not where.is_mount()


def fill(path: Path, size: int) -> None:
    """Writes until that fails, checks that all that was taken is there, and fails as the writing did."""
    data = os.urandom(MIB)
    with path.open("wb", buffering=0) as file:
        try:
            for _ in range(size // MIB):
                file.write(data)
        finally:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            whole = path.read_bytes()
            assert len(whole) >= file.tell()
            assert all(whole[begin : begin + MIB] == data for begin in range(0, file.tell() // MIB * MIB, MIB))


def test_more_data_than_memory(where: Path, made: Made) -> None:
    """Whoever writes is told at once; what was taken before is all there."""
    with pytest.raises(OutOfMemoryError) as caught, on_zram(where, 256 * MIB, 16 * MIB):
        fill(where / "x", 64 * MIB)
    assert "compressed, it needs more than its limit of 16.0 MiB" in caught.value.message
    assert "bootc.live.size=" in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)
    assert made.none_left()


def test_a_loss_that_nobody_was_told_of(where: Path, made: Made) -> None:
    """What the kernel writes back whenever it likes to, such as mapped pages, only the device misses."""
    dd = ["dd", "if=/dev/urandom", f"of={where}/x", "bs=1M", "count=32", "status=none"]
    with on_zram(where, 256 * MIB, 8 * MIB):
        subprocess.run(["mount", "-o", "remount,async", where], check=True)
        subprocess.run(dd, check=True)
        with pytest.raises(OutOfMemoryError, match="zram could not take all data"):
            settle(str(where))
    assert made.none_left()


def test_a_full_file_system_is_no_loss(where: Path, made: Made) -> None:
    with on_zram(where, 32 * MIB):
        with pytest.raises(OSError, match="No space left"):
            (where / "x").write_bytes(bytes(64 * MIB))
        settle(str(where))
        (where / "x").unlink()
        (where / "y").write_bytes(os.urandom(20 * MIB))
        settle(str(where))
    assert made.none_left()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OutOfMemoryError])
def test_errors_pass_unchanged(error: type[BaseException], where: Path, made: Made) -> None:
    thrown = OutOfMemoryError("x", hint="y") if error is OutOfMemoryError else error("x")
    with pytest.raises(error) as caught, on_zram(where, 64 * MIB):
        raise thrown
    assert caught.value is thrown
    assert made.none_left()


def test_what_is_mounted_elsewhere_lives_on(
    where: Path, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a boot: the root is bound somewhere else when all of this ends, and no time is lost then."""
    monkeypatch.setattr("bootc_live.system.devices.zram._TIMEOUT", 120.0)
    other = tmp_path / "other"
    other.mkdir()
    with on_zram(where, 64 * MIB) as found:
        (where / "kept").write_bytes(b"kept")
        subprocess.run(["mount", "--bind", where, other], check=True)
        began = time.monotonic()
    assert made.devices == [found]
    try:
        assert time.monotonic() - began < 60
        assert not where.is_mount()
        assert found.there()
        assert (other / "kept").read_bytes() == b"kept"
    finally:
        subprocess.run(["umount", other], check=True)
        found.remove()


@pytest.mark.parametrize("backing", [Backing(), Backing(size=64 * MIB), Backing(zram=Zram(128 * MIB))], ids=str)
def test_workspace(backing: Backing, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    # Others use memory, too.
    available = available_bytes()
    monkeypatch.setattr("bootc_live.rootfs.ram.available_bytes", lambda: available)
    with ram_workspace(backing, str(base)) as place:
        room = os.statvfs(place).f_blocks * 4096
        if backing.zram is not None:
            assert 0.9 * backing.zram.size < room < backing.zram.size
            limit = int(made.devices[0].read("mm_stat").split()[3])
            assert limit == available - 64 * MIB
        else:
            expected = backing.size or available - 64 * MIB
            assert abs(room - expected) < MIB
        assert Path(place).stat().st_mode & 0o7777 == 0o700
        assert list(Path(place).iterdir()) == []
    assert not base.exists()


@pytest.mark.parametrize(
    ("backing", "hint"),
    [
        (Backing(size=MIB), "give more than 1.0 MiB with bootc.live.size="),
        (Backing(size=MIB, zram=Zram(16 * MIB)), "give more than 16.0 MiB with bootc.zram="),
    ],
)
def test_the_hint_names_the_argument(backing: Backing, hint: str, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError) as caught, ram_workspace(backing, str(tmp_path / "base")):
        raise OutOfMemoryError("no space left for layer 0", hint="give the machine more memory")
    assert hint in caught.value.hint


@pytest.mark.parametrize(("name", "missing"), [("mke2fs", "the program 'mke2fs' is missing"), ("modprobe", "no zram")])
def test_what_an_initramfs_may_lack(
    name: str, missing: str, where: Path, monkeypatch: pytest.MonkeyPatch, made: Made
) -> None:
    if name == "modprobe":
        monkeypatch.setattr("bootc_live.system.devices.zram._CONTROL", "/nonexistent")
        monkeypatch.setattr("bootc_live.system.devices.zram.find_program", lambda _name: None)
    else:
        monkeypatch.setattr("bootc_live.rootfs.ram.find_program", lambda _name: None)
    with pytest.raises(RunError, match=missing) as caught, on_zram(where, 64 * MIB):
        pytest.fail("it was mounted")
    assert "the dracut module bootc-live-zram" in caught.value.hint
    assert made.devices == []
