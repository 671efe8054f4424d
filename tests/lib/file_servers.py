"""FTP and TFTP servers of Debian on free loopback ports, run in the builder root."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_REPO: Final = Path(__file__).resolve().parents[2]
_LOOPBACK: Final = "127.0.0.1"
_START_SECONDS: Final = 120


@contextmanager
def ftp_server(directory: Path, user: str = "", password: str = "") -> Iterator[int]:
    """Serves a directory of the repository by FTP, to anybody or to one user; gives the port."""
    port = _free_port(socket.SOCK_STREAM)
    login = ["-u", user, "-P", password] if user else []
    command = ["python3", "-m", "pyftpdlib", "-i", _LOOPBACK, "-p", str(port), "-d", str(directory), *login]
    with _running(command) as process:
        _wait(process, lambda: socket.create_connection((_LOOPBACK, port), timeout=1).close())
        yield port


@contextmanager
def tftp_server(directory: Path) -> Iterator[int]:
    """Serves a directory of the repository by TFTP (tftpd-hpa); gives the port."""
    port = _free_port(socket.SOCK_DGRAM)
    command = ["in.tftpd", "-L", "-a", f"{_LOOPBACK}:{port}", "-u", "root", "-s", str(directory)]
    with _running(command) as process:
        _wait(process, lambda: _ask_tftp(port))
        yield port


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(_REPO / "vm/enter"), "builder", *command]
    process = subprocess.Popen(
        argv, cwd=_REPO, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        # Of unshare, whose end is the end of all it started; it takes no milder signal.
        process.kill()
        process.wait(timeout=_START_SECONDS)


def _wait(process: subprocess.Popen[bytes], probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        try:
            probe()
        except OSError:
            assert time.monotonic() < deadline, f"{process.args!r} does not answer"
            time.sleep(0.1)
        else:
            return


def _ask_tftp(port: int) -> None:
    """Asks for a file that is not there; any answer will do (RFC 1350)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.5)
        asking.sendto(b"\0\1no-such-file\0octet\0", (_LOOPBACK, port))
        asking.recvfrom(1024)


def _free_port(kind: socket.SocketKind) -> int:
    """A port for a server that cannot take a free one itself.

    None of those that the kernel gives out: somebody else might get it before the server does.
    """
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket(socket.AF_INET, kind) as bound, suppress(OSError):
            bound.bind((_LOOPBACK, port))
            return port
