"""A takeover of the first process, as far as it is pure: what is stopped, and what is read about processes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.machine import Machine, Way, ways
from bootc_live.landing.pivot.takeover.hardware import check_watchdogs, held_watchdogs, swap_on_disks
from bootc_live.landing.pivot.takeover.processes import running_program
from bootc_live.landing.pivot.takeover.services import services, stoppable
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
        ("other", ("etc/rc1.d/K01ssh",), []),
        ("init", (), []),
        (
            "init",
            ("etc/rc1.d/K02cron", "etc/rc1.d/K01ssh", "etc/rc1.d/S01single", "etc/rc1.d/K03networking"),
            [["/etc/rc1.d/K01ssh", "stop"], ["/etc/rc1.d/K02cron", "stop"]],
        ),
        (
            "openrc-init",
            (
                *("etc/runlevels/default/sshd", "etc/runlevels/default/net.eth0", "etc/runlevels/default/nftables"),
                "etc/runlevels/boot/hostname",
            ),
            [["rc-service", "--ifstarted", "sshd", "stop"]],
        ),
        (
            "runit",
            ("etc/service/sshd/run", "etc/service/dhcpcd/run", "etc/rc1.d/K01ssh"),
            [["sv", "-w", "10", "force-stop", "/etc/service/sshd"]],
        ),
    ],
)
def test_what_stops_services(init: str, files: tuple[str, ...], expected: list[list[str]], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if init == "openrc-init":
        (tmp_path / "run/openrc").mkdir(parents=True)
        (tmp_path / "run/openrc/softlevel").write_text("default\n")
    assert [list(service.stop) for service in services(init, str(tmp_path))] == expected


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


def test_what_starts_services_again(tmp_path: Path) -> None:
    """Only what the runlevel starts."""
    for name in ("etc/rc1.d/K01ssh", "etc/rc1.d/K02other", "etc/rc2.d/S03ssh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [list(service.start) for service in services("init", str(tmp_path))] == [["/etc/rc2.d/S03ssh", "start"], []]


def test_units_that_are_stopped() -> None:
    kept = ["systemd-journald.service", "dbus.service", "user@0.service", "getty@tty1.service", "ufw.service"]
    kept += ["NetworkManager.service", "nftables.service", "wpa_supplicant.service", "bootc-live-pivot.service"]
    assert stoppable([*kept, "docker.service", "ssh.service"]) == ["docker.service", "ssh.service"]


@pytest.mark.parametrize(("nowayout", "refused"), [("0\n", False), ("1\n", True), (None, False)])
def test_watchdogs(nowayout: str | None, refused: bool, tmp_path: Path) -> None:
    (tmp_path / "process/fd").mkdir(parents=True)
    for number, target in {"3": "/dev/watchdog1", "4": "/dev/null", "5": "/dev/watchdogs"}.items():
        (tmp_path / "process/fd" / number).symlink_to(target)
    assert held_watchdogs(str(tmp_path / "process")) == {3: "/dev/watchdog1"}
    if nowayout is not None:
        (tmp_path / "sys/watchdog1").mkdir(parents=True)
        (tmp_path / "sys/watchdog1/nowayout").write_text(nowayout)
    with pytest.raises(LandingError, match="nowayout") if refused else nullcontext():
        check_watchdogs(str(tmp_path / "process"), str(tmp_path / "sys"))


def test_swap_on_disks(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text(
        "Filename\t\t\tType\t\tSize\tUsed\tPriority\n"
        "/dev/sda2   partition 1 0 -2\n/my\\040swap file 1 0 -3\n/dev/zram0 partition 1 0 100\n"
    )
    assert swap_on_disks(str(tmp_path / "swaps")) == [b"/dev/sda2", b"/my swap"]
