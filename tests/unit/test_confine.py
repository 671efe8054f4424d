"""What a decoder can do that has been taken over by its input: turn bytes into other bytes."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import resource
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.image.store.direct import Inflation
from bootc_live.system import confine
from bootc_live.system.inflate import confined

ROOT = os.geteuid() == 0
LIBC = ctypes.CDLL(None, use_errno=True)
IO_SETUP, IO_URING_SETUP = 0 if os.uname().machine == "aarch64" else 206, 425
BEFORE = b"verified".ljust(4096)


def call(number: int, *arguments: Any) -> None:
    """A system call that should fail."""
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def limit(number: int) -> None:
    """Raises OSError where nothing at all is allowed."""
    if resource.getrlimit(number)[1] == 0:
        raise OSError


TRIED: dict[str, Callable[[Path], object]] = {
    "new file": lambda where: (where / "new").write_bytes(b"x"),
    "new directory": lambda where: (where / "new").mkdir(),
    "existing file": lambda where: (where / "open-to-all").write_bytes(b"x"),
    "removing": lambda where: (where / "open-to-all").unlink(),
    "link": lambda where: (where / "new").symlink_to("/"),
    "reading": lambda where: (where / "open-to-all").read_bytes(),
    "listing": lambda _: os.listdir("/"),
    "socket": lambda _: socket.socket(),
    "pair": lambda _: socket.socketpair(),
    "program": lambda _: os.execv("/bin/true", ["true"]),
    "subprocess": lambda _: subprocess.run(["true"], check=False),
    "fork": lambda _: os.fork(),
    "user": lambda _: os.setuid(0),
    "namespace": lambda _: os.kill(0, 0) if LIBC.unshare(0x20000) < 0 else None,
    "parent": lambda _: os.kill(os.getppid(), 0),
    "memory": lambda _: bytearray(1 << 30),
    "another descriptor": lambda _: os.dup(0),
    "seek": lambda _: os.lseek(1, 0, 0),
    "write elsewhere": lambda _: os.pwrite(1, b"evil", 0),
    "map": lambda _: mmap.mmap(1, 4096),
    "through proc": lambda _: os.open("/proc/self/fd/1", os.O_RDWR),
    "shorter": lambda _: os.ftruncate(1, 0),
    "write later": lambda _: call(IO_SETUP, 1, ctypes.byref(ctypes.c_ulong(0))),
    "through io_uring": lambda _: call(IO_URING_SETUP, 1, ctypes.create_string_buffer(120)),
    "trace": lambda _: os.kill(0, 0) if LIBC.ptrace(0, 0, 0, 0) < 0 else None,
}


class Evil:
    """A decoder that tries something, and says how it went."""

    def __init__(self, attempt: Callable[[], object]) -> None:
        """Try it when the process is confined."""
        self._attempt = attempt

    def decode(self, _data: memoryview) -> Iterator[bytes]:
        """Yield what came of it."""
        try:
            self._attempt()
        except (OSError, MemoryError):
            yield b"refused"
        else:
            yield b"done"

    def end(self) -> None:
        """Do nothing."""


def inflated(path: Path, attempt: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a decoder writes into a file behind what is there already."""
    monkeypatch.setitem(confined.DECODERS, "evil", lambda _room: Evil(attempt))
    inflation = Inflation("evil", 4096, 2**20, lambda: False, hashlib.sha256())
    came = inflation.into(str(path), iter([b"x"]))
    written = path.read_bytes()[4096 : 4096 + came]
    assert inflation.hasher.digest() == hashlib.sha256(written).digest()
    return written


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data file that already has something."""
    path = tmp_path / "data"
    path.write_bytes(BEFORE)
    return path


@pytest.mark.parametrize("number", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_CORE])
def test_limits_that_are_there_already(number: int, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody without privileges may raise them."""

    def limited(_room: object) -> Evil:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        lower = {resource.RLIMIT_FSIZE: 2**19, resource.RLIMIT_AS: used + 2**26, resource.RLIMIT_CORE: 0}[number]
        resource.setrlimit(number, (lower, lower))
        return Evil(lambda: None)

    monkeypatch.setitem(confined.DECODERS, "limited", limited)
    inflation = Inflation("limited", 4096, 2**20, lambda: False, hashlib.sha256())
    assert inflation.into(str(data), iter([b"x"])) == len(b"done")


@pytest.mark.parametrize("what", TRIED)
def test_no_more_than_its_output(what: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "open"
    where.mkdir()
    (where / "open-to-all").write_bytes(b"before")
    for path in (tmp_path, where, where / "open-to-all"):
        path.chmod(0o777)
    assert inflated(data, lambda: TRIED[what](where), monkeypatch) == b"refused"
    assert os.listdir(where) == ["open-to-all"]
    assert (where / "open-to-all").read_bytes() == b"before"
    assert data.read_bytes()[:4096] == BEFORE


def test_beyond_its_part(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"^it unpacks to more than 1020 KiB$"):
        inflated(data, lambda: [os.write(1, bytes(2**20)) for _ in range(2)], monkeypatch)
    assert data.read_bytes()[:4096] == BEFORE


def test_crash(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"^it is damaged: its decoder was killed by signal 11$"):
        inflated(data, lambda: ctypes.string_at(0), monkeypatch)


def test_nobody_without_privileges(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor of its own status is open before; it can open none afterwards."""
    made = {}

    def decoder(_room: object) -> Evil:
        file = os.open("/proc/self/status", os.O_RDONLY)
        return Evil(lambda: os.write(1, os.read(file, 65536)))

    monkeypatch.setitem(confined.DECODERS, "status", decoder)
    inflation = Inflation("status", 4096, 2**20, lambda: False, hashlib.sha256())
    came = inflation.into(str(data), iter([b"x"]))
    text = data.read_bytes()[4096 : 4096 + came].decode()
    made = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert made["NoNewPrivs"] == "1"
    assert made["Seccomp"] == ("2" if os.uname().machine in confine._ALLOWED else "0")
    if ROOT:
        assert set(made["Uid"].split()) == set(made["Gid"].split()) == {str(confine._NOBODY)}
        assert made["Groups"].strip() == ""
        assert int(made["CapEff"], 16) == int(made["CapPrm"], 16) == 0


def test_the_rest_of_this_program_is_what_it_was(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inflated(data, lambda: None, monkeypatch)
    own = Path("/proc/self/status").read_text()
    assert "NoNewPrivs:\t0" in own
    assert "Seccomp:\t0" in own
    socket.socket().close()


@pytest.mark.parametrize("machine", confine._ALLOWED)
def test_the_filter_allows_what_it_names_and_nothing_else(machine: str) -> None:
    """Run by an interpreter of its own, as the kernel runs it."""
    architecture, allowed = confine._ALLOWED[machine]
    steps = memoryview(confine._program(architecture, allowed)).cast("B")

    def run(arch: int, number: int) -> int:
        held = at = 0
        while True:
            code, yes, no = int.from_bytes(steps[at : at + 2], "little"), steps[at + 2], steps[at + 3]
            value = int.from_bytes(steps[at + 4 : at + 8], "little")
            at += 8
            if code == 0x06:
                return value
            if code == 0x20:
                held = arch if value == 4 else number
                continue
            at += 8 * (yes if held == value else no)

    for number in range(600):
        assert run(architecture, number) == (0x7FFF0000 if number in allowed.values() else 0x50001), number
    # x32, the second ABI of x86_64, and i386.
    assert run(architecture, 0x40000000 + 1) == 0x50001
    assert run(0x40000003, 3) == 0x80000000
