"""What a program can do that reads what nobody has checked: turn bytes into other bytes."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.errors import RunError
from bootc_live.image.store.direct import Inflation
from bootc_live.system import confine
from bootc_live.system.run import filter_process

# One that nobody may run, too; that of a virtual environment may lie anywhere.
PYTHON = "/usr/bin/python3"
ROOT = os.geteuid() == 0
# What a program that has been taken over might try; each prints "done" if it could.
TRIED = {
    "new file": "open(T + '/new', 'w')",
    "new directory": "os.mkdir(T + '/new')",
    "existing file": "open(T + '/open-to-all', 'r+b').write(b'x')",
    "removing": "os.unlink(T + '/open-to-all')",
    "link": "os.symlink('/', T + '/new')",
    "socket": "socket.socket()",
    "unix socket": "socket.socket(socket.AF_UNIX).connect(T + '/socket')",
    "pair": "socket.socketpair()",
    "secret": "open(T + '/secret').read()",
    "user": "os.setuid(0)" if ROOT else "raise OSError",
    "namespace": "assert ctypes.CDLL(None).unshare(0x20000) == 0",
    "parent": f"os.kill({os.getpid()}, 0)" if ROOT else "raise OSError",
    "memory": "bytearray(1 << 30)",
    "many files": "[os.dup(0) for _ in range(64)]",
    "core": "assert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0",
    "seek": "os.lseek(1, 0, 0)",
    "write elsewhere": "os.pwrite(1, b'evil', 0)",
    "map": "mmap.mmap(1, 4096)",
    "through proc": "open('/proc/self/fd/1', 'r+b').write(b'evil')",
    "shorter": "os.ftruncate(1, 0)",
    "write later": "assert libc.syscall(IO_SETUP, 1, ctypes.byref(ctypes.c_ulong(0))) == 0",
    "through io_uring": "assert libc.syscall(425, 1, ctypes.create_string_buffer(120)) >= 0",
    "copy": "os.copy_file_range(os.open('/usr/bin/env', 0), 1, 4, 0, 0)",
}
SCRIPT = """
import ctypes, mmap, os, resource, socket, sys
T = sys.argv[1]
libc, IO_SETUP = ctypes.CDLL(None), 0 if os.uname().machine == "aarch64" else 206
sys.stdin.read()
try:
    {tried}
    os.write(1, b"done")
except (AssertionError, OSError, MemoryError):
    os.write(1, b"refused")
"""


@contextmanager
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that everybody may write to."""
    # pytest's own are for their owner alone.
    for directory in (tmp_path, *tmp_path.parents):
        if ROOT and directory.name.startswith(("pytest-", "test_")):
            directory.chmod(directory.stat().st_mode | 0o055)
    where = tmp_path / "open"
    where.mkdir()
    where.chmod(0o777)
    (where / "open-to-all").write_bytes(b"before")
    (where / "open-to-all").chmod(0o666)
    (where / "secret").write_bytes(b"secret")
    (where / "secret").chmod(0o600 if ROOT else 0)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(where / "socket"))
        (where / "socket").chmod(0o777)
        listening.listen()
        yield where


def made(path: Path, *argv: str) -> bytes:
    """What a program writes into a file behind what is there already."""
    inflation = Inflation(argv, 4096, 2**20, lambda: False, hashlib.sha256(), threading.Event())
    came = inflation.into(str(path), iter([b"x"]))
    written = path.read_bytes()[4096 : 4096 + came]
    assert inflation.hasher.digest() == hashlib.sha256(written).digest()
    return written


@pytest.mark.parametrize("what", TRIED)
def test_no_more_than_its_output(what: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"verified".ljust(4096))
    data.chmod(0o600)
    with place(tmp_path) as where:
        before = sorted(os.listdir(where))
        said = made(data, PYTHON, "-I", "-S", "-c", SCRIPT.format(tried=TRIED[what]), str(where))
        assert said == b"refused"
        assert sorted(os.listdir(where)) == before
        assert (where / "open-to-all").read_bytes() == b"before"
    assert data.read_bytes()[:4096] == b"verified".ljust(4096)


def status(*argv: str) -> dict[str, str]:
    read, write = os.pipe()
    with filter_process(argv, os.open("/dev/null", os.O_RDONLY), write, closing=(write,)) as program:
        with open(read, encoding="ascii") as pipe:
            text = pipe.read()
        program.finish()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_nobody_without_privileges() -> None:
    said = status("cat", "/proc/self/status")
    assert said["NoNewPrivs"] == "1"
    assert said["Seccomp"] == ("2" if os.uname().machine in confine._REFUSED else "0")
    if ROOT:
        assert set(said["Uid"].split()) == set(said["Gid"].split()) == {str(confine.NOBODY)}
        assert said["Groups"].strip() == ""
        assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0


def test_the_rest_of_this_program_is_what_it_was() -> None:
    """Threads of it, too, that come later."""
    status("true")
    said = threading.Thread(target=lambda: socket.socket().close())
    said.start()
    said.join()
    own = Path("/proc/thread-self/status").read_text()
    assert "NoNewPrivs:\t0" in own
    assert "Seccomp:\t0" in own
    assert os.geteuid() == (0 if ROOT else os.getuid())


def test_a_program_that_is_gone() -> None:
    read, write = os.pipe()
    with pytest.raises(RunError, match="No such file"), filter_process(["gone"], read, write, closing=(read, write)):
        pass


@pytest.mark.parametrize("machine", confine._REFUSED)
def test_the_filter_refuses_what_it_names_and_nothing_else(machine: str) -> None:
    """Run by an interpreter of its own, as the kernel runs it."""
    architecture, refused = confine._REFUSED[machine]
    steps = memoryview(confine._program(architecture, refused)).cast("B")

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
            at += 8 * (yes if (held == value if code == 0x15 else held >= value) else no)

    for number in range(600):
        assert run(architecture, number) == (0x50001 if number in refused.values() else 0x7FFF0000), number
    assert run(architecture, 0x40000000 + 1) == 0x50001
    assert run(0x40000003, 3) == 0x80000000
