"""A takeover of the first process, as far as it is pure: what is stopped, and what is read about processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.landing.pivot.machine import Machine, Way, ways
from bootc_live.landing.pivot.takeover.services import running_program, stop_commands
from bootc_live.landing.pivot.takeover.tracing import code_areas, signals_in


@pytest.mark.parametrize(
    ("systemd", "expected"),
    [
        (257, [Way.SOFT_REBOOT, Way.TAKEOVER, Way.KEXEC, Way.CONTAIN]),
        (252, [Way.TAKEOVER, Way.KEXEC, Way.CONTAIN]),
        (0, [Way.TAKEOVER, Way.CONTAIN]),
    ],
)
def test_ways(systemd: int, expected: list[Way]) -> None:
    assert ways(Machine("init", systemd, (), 1, 0)) == expected


@pytest.mark.parametrize(
    ("init", "files", "expected"),
    [
        ("systemd", ("etc/rc1.d/K01ssh",), []),
        ("init", (), []),
        (
            "init",
            ("etc/rc1.d/K02cron", "etc/rc1.d/K01ssh", "etc/rc1.d/S01single", "etc/rc1.d/K03networking"),
            [["/etc/rc1.d/K01ssh", "stop"], ["/etc/rc1.d/K02cron", "stop"]],
        ),
        (
            "openrc-init",
            ("etc/runlevels/default/sshd", "etc/runlevels/default/net.eth0", "etc/runlevels/boot/hostname"),
            [["rc-service", "--ifstarted", "sshd", "stop"]],
        ),
        (
            "runit",
            ("etc/service/sshd/run", "etc/service/dhcpcd/run", "etc/rc1.d/K01ssh"),
            [["sv", "-w", "10", "force-stop", "/etc/service/sshd"]],
        ),
    ],
)
def test_stop_commands(init: str, files: tuple[str, ...], expected: list[list[str]], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if init == "openrc-init":
        (tmp_path / "run/openrc").mkdir(parents=True)
        (tmp_path / "run/openrc/softlevel").write_text("default\n")
    assert stop_commands(init, str(tmp_path)) == expected


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ("12 (sshd) S 1 12 12 0 -1 4194560 863", "sshd"),
        ("12 (a) b) R 1 12 12 0 -1 4194560 863", "a) b"),
        ("12 (sshd) Z 1 12 12 0 -1 4194560 863", None),
        ("2 (kthreadd) S 0 0 0 0 -1 2129984 0", None),
    ],
)
def test_running_programs(stat: str, expected: str | None) -> None:
    assert running_program(stat) == expected


def test_signals_in_a_mask() -> None:
    assert signals_in("0000000000001001") == (1, 13)
    assert signals_in("8000000000000000") == (64,)
    assert signals_in("0") == ()


def test_code_of_a_process() -> None:
    maps = (
        "55d0a0000000-55d0a0004000 r--p 00000000 fd:01 131 /usr/sbin/init",
        "55d0a0004000-55d0a000a000 r-xp 00004000 fd:01 131 /usr/sbin/init",
        "7ffd1c9f8000-7ffd1c9fa000 r-xp 00000000 00:00 0 [vdso]",
        "ffffffffff600000-ffffffffff601000 r-xp 00000000 00:00 0 [vsyscall]",
    )
    assert code_areas(maps) == [(0x55D0A0004000, 0x55D0A000A000), (0x7FFD1C9F8000, 0x7FFD1C9FA000)]
