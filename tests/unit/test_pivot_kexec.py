"""A kernel that a running system starts: what it needs, its command line, and that it stays loaded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.base.log import Recorder
from bootc_live.cli.options.parser import parse_arguments
from bootc_live.cli.pivot import refuse_for_kernel
from bootc_live.config.model import Kexec
from bootc_live.landing.pivot import by_kexec
from bootc_live.landing.pivot.by_kexec import PivotByKexec, next_kernel_cmdline
from bootc_live.landing.pivot.network import Interface, Route
from bootc_live.system import kexec

RUNNING = "BOOT_IMAGE=/vmlinuz root=UUID=1234 ro quiet console=tty0 console=ttyS0,115200n8 -- single"
STATIC = Interface("eth0", "52:54:00:12:34:56", ("192.0.2.7/20",), (Route("default", "192.0.2.1"),))
SOURCE = "docker://registry.example/os:1"
BASE = f"root=bootc-live:{SOURCE} console=tty0 console=ttyS0,115200n8"


@pytest.mark.parametrize(
    ("more", "interfaces", "expected"),
    [
        ("", (), BASE),
        ("rw bootc.live.layout=erofs", (), f"{BASE} rw bootc.live.layout=erofs"),
        ("", (STATIC,), f"{BASE} ip=192.0.2.7::192.0.2.1:255.255.240.0::eth0:none"),
        ("ip=dhcp", (STATIC,), f"{BASE} ip=dhcp"),
        ("", (Interface("eth0", "", ("192.0.2.7/24",), dynamic=True),), BASE),
        ("", (Interface("eth0", "", ("2001:db8::7/64",)),), BASE),
        ("", (Interface("eth0", "", ("192.0.2.7/24",)),), f"{BASE} ip=192.0.2.7:::255.255.255.0::eth0:none"),
    ],
)
def test_command_line(more: str, interfaces: tuple[Interface, ...], expected: str) -> None:
    assert next_kernel_cmdline(SOURCE, more, RUNNING, interfaces) == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), "this kernel has no kexec"),
        (("able",), "there is no .*/program, which systemd needs for it"),
        (("able", "program"), None),
    ],
)
def test_needs(there: tuple[str, ...], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_kexec, "_ABLE", str(tmp_path / "able"))
    monkeypatch.setattr(by_kexec, "_PROGRAM", str(tmp_path / "program"))
    for name in there:
        (tmp_path / name).touch(0o755)
    landing = PivotByKexec(Kexec(), (), "", str(tmp_path), Recorder())
    if expected is None:
        landing.check()
        return
    with pytest.raises(LandingError, match=expected):
        landing.check()


@pytest.mark.parametrize("kept", [False, True])
def test_stays_loaded(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is undone at the end, when systemd has accepted."""
    calls: list[int] = []
    monkeypatch.setattr(kexec, "_kept", threading.Event())
    monkeypatch.setattr(kexec, "_call", lambda *arguments: calls.append(arguments[-1]))
    monkeypatch.setattr(by_kexec, "run", lambda _: None)
    if kept:
        by_kexec.stop_for_next_kernel()
    kexec._unload()
    assert len(calls) == (0 if kept else 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--on-exit", "shell"], "--on-exit is not possible with '--via kexec'"),
        (["--keep-old-root"], "--keep-old-root is not possible"),
        (["--rollback-after", "5m"], "--rollback-after is not possible"),
        (["--flush-firewall"], "--flush-firewall is not possible"),
        (["--tailscale-authkey-file", "key"], "--tailscale-authkey-file is not possible"),
        (["--entrypoint", "sh"], "--entrypoint is not possible"),
        (["--", "sh"], "--command is not possible"),
        (["--headless"], "nobody can know whether"),
    ],
)
def test_options_that_another_kernel_does_not_know(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_for_kernel(parse_arguments(["pivot", "a", "--via", "kexec", *words]))
    assert said in caught.value.message


def test_options_for_another_kernel() -> None:
    words = ["--release-old-root", "--headless", "--yes-i-have-a-console", "--cmdline", "rw"]
    refuse_for_kernel(parse_arguments(["pivot", "a", "--via", "kexec", *words]))
