"""The calls that load a kernel. Their answers are faked: a kernel that loads another one is booted in QEMU."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, LandingError, OutOfMemoryError, RunError
from bootc_live.system import kexec

Calls = list[tuple[int, int, bytes, int]]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "kernel").write_bytes(os.urandom(300_000))
    (tmp_path / "initrd").write_bytes(os.urandom(500_000))
    return str(tmp_path / "kernel"), str(tmp_path / "initrd")


def answer(monkeypatch: pytest.MonkeyPatch, code: int) -> Calls:
    """Makes the call answer with an error number, 0 for none; it reads both files first, as the kernel does."""
    calls: Calls = []

    def call(kernel: int, initrd: int, cmdline: bytes, flags: int) -> None:
        calls.append((kernel, initrd, cmdline, flags))
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(kexec, "_call", call)
    return calls


def nothing() -> None:
    """Takes note of nothing."""


def test_loaded_for_as_long_as_the_block(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, 0)
    with kexec.loaded_kernel(*files, "root=x quiet", nothing) as how:
        assert how == "kexec_file_load"
        ((kernel, initrd, cmdline, flags),) = calls
        assert kernel >= 0
        assert initrd >= 0
        assert (cmdline, flags) == (b"root=x quiet", 0)
    assert calls[1:] == [(-1, -1, b"", 1)]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (errno.ENOMEM, OutOfMemoryError, r"need 1\.5 MiB of memory"),
        (errno.EADDRNOTAVAIL, OutOfMemoryError, "available"),
        (errno.EKEYREJECTED, LandingError, "that this kernel does not trust"),
        (errno.ENODATA, LandingError, "it is not signed"),
        (errno.ENOKEY, LandingError, "does not know"),
        (errno.ENOEXEC, LandingError, "a format that this kernel cannot load"),
        (errno.EFBIG, LandingError, r"have [0-9]+ KiB, the limit of kexec is 4 GiB"),
        (errno.EINVAL, LandingError, "Invalid argument"),
        (errno.EPERM, LandingError, "refuses to load another one"),
    ],
)
def test_refusals_name_their_reason(
    code: int, kind: type[BootcLiveError], said: str, files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, code)
    with pytest.raises(kind, match=said), kexec.loaded_kernel(*files, "", nothing):
        pass


@pytest.mark.parametrize(
    ("disabled", "lockdown", "said"),
    [
        ("1\n", "none [integrity]", "kernel.kexec_load_disabled"),
        ("0\n", "none [integrity] confidentiality\n", r"lockdown=integrity.*is not signed"),
        ("0\n", "[none] integrity confidentiality\n", "forbidden to this process"),
        (None, None, "forbidden to this process"),
    ],
)
def test_why_it_is_forbidden(
    disabled: str | None,
    lockdown: str | None,
    said: str,
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, content in (("_DISABLED", disabled), ("_LOCKDOWN", lockdown)):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(kexec, name, str(path))
    answer(monkeypatch, errno.EPERM)
    with pytest.raises(LandingError, match=said), kexec.loaded_kernel(*files, "", nothing):
        pass


def test_the_program_where_the_call_is_missing(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / "kexec", tmp_path / "log"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{log}\n')
    program.chmod(0o755)
    monkeypatch.setattr(kexec, "find_program", lambda _: str(program))
    answer(monkeypatch, errno.ENOSYS)
    read: list[str] = []
    with kexec.loaded_kernel(*files, "a b", lambda: read.append("read")) as how:
        assert how == "kexec_load"
    assert read == ["read"]
    kernel, initrd = files
    wanted = ["--kexec-syscall", "--load", kernel, f"--initrd={initrd}", "--command-line=a b"]
    assert log.read_text().splitlines() == [*wanted, "--kexec-syscall", "--unload"]


def test_the_program_may_fail_or_be_missing(
    files: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, errno.ENOSYS)
    monkeypatch.setattr(kexec, "find_program", lambda _: None)
    with pytest.raises(LandingError, match="the program 'kexec' is missing"), kexec.loaded_kernel(*files, "", nothing):
        pass
    program = tmp_path / "kexec"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(kexec, "find_program", lambda _: str(program))
    with pytest.raises(RunError, match="no such luck"), kexec.loaded_kernel(*files, "", nothing):
        pass


def test_told_once_both_files_were_read(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's count of what this thread has read: before the call ends, and not before the last byte."""
    heard = threading.Event()

    def call(kernel: int, initrd: int, _cmdline: bytes, flags: int) -> None:
        if flags:
            return
        while os.read(kernel, 65536):
            pass
        assert not heard.wait(0.05)
        while os.read(initrd, 65536):
            pass
        assert heard.wait(600)

    monkeypatch.setattr(kexec, "_call", call)
    with kexec.loaded_kernel(*files, "", heard.set):
        assert heard.is_set()


def test_the_real_call_gives_the_real_error() -> None:
    """Descriptors that are none: EBADF, or whatever a kernel says that forbids kexec or has none."""
    with pytest.raises(OSError, match=r"^.+$") as caught:
        kexec._call(-1, -1, b"x", 0)
    assert caught.value.errno in (errno.EBADF, errno.EPERM, errno.ENOSYS)
