"""Whether a person without a console could reach a system, and the units that go back where nobody confirms."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_live.landing.pivot.network import Interface
from bootc_live.landing.pivot.program import Program
from bootc_live.landing.pivot.units import CONFIRMED, is_enabled, rollback_units, written_files
from bootc_live.landing.pivot.way_back import way_back
from tests.unit.test_pivot_program import MACHINES, elf

HERE = [Interface("eth0", "52:54:00:12:34:56", ("192.0.2.7/24",))]
SYSTEMD = Program("/sbin/init", ("/sbin/init",), {}, init=True, systemd=True)
UNIT = "etc/systemd/system/multi-user.target.wants/ssh.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system that can be reached."""
    files = {
        "usr/sbin/sshd": "",
        "etc/passwd": "root:x:0:0::/root:/bin/sh\njoe:x:7:7::/home/joe:/bin/sh\nd:x:1:1::/home/d:/sbin/nologin\n",
        "root/.ssh/authorized_keys": "ssh-ed25519 AAAA me\n",
        "etc/ssh/sshd_config": "# PermitRootLogin no\nInclude /etc/ssh/sshd_config.d/*.conf\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "usr/sbin/sshd").write_bytes(elf(MACHINES[platform.machine()]))
    (tmp_path / "usr/sbin/sshd").chmod(0o755)
    (tmp_path / UNIT).parent.mkdir(parents=True)
    (tmp_path / UNIT).symlink_to("/usr/lib/systemd/system/ssh.service")
    return tmp_path


def test_reachable(root: Path) -> None:
    assert way_back(str(root), HERE, SYSTEMD).how == "ssh as root, at 192.0.2.7"


def _config(root: Path, text: str) -> None:
    (root / "etc/ssh/sshd_config.d").mkdir()
    (root / "etc/ssh/sshd_config.d/10-own.conf").write_text(text)


def _users(root: Path) -> None:
    _config(root, "PermitRootLogin no\n")
    for name in ("joe", "d"):
        (root / f"home/{name}/.ssh").mkdir(parents=True)
        (root / f"home/{name}/.ssh/authorized_keys").write_text("ssh-ed25519 AAAA\n")


LACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no server": (lambda root: (root / "usr/sbin/sshd").unlink(), "no ssh server is in it"),
    "a server of another machine": (
        lambda root: (root / "usr/sbin/sshd").write_bytes(elf(8)),
        "no ssh server is in it",
    ),
    "not enabled": (lambda root: (root / UNIT).unlink(), "nothing starts its ssh server"),
    "masked": (lambda root: (root / "etc/systemd/system/ssh.service").symlink_to("/dev/null"), "nothing starts its"),
    "no keys": (lambda root: (root / "root/.ssh/authorized_keys").write_text(""), "nobody has an authorized ssh key"),
    "root is refused": (lambda root: _config(root, "PermitRootLogin no\n"), "nobody has an authorized ssh key"),
    "no users": (lambda root: (root / "etc/passwd").unlink(), "nobody has an authorized ssh key"),
}


@pytest.mark.parametrize("name", LACKS)
def test_unreachable(name: str, root: Path) -> None:
    change, said = LACKS[name]
    change(root)
    found = way_back(str(root), HERE, SYSTEMD)
    assert found.how == ""
    (lack,) = found.lacks
    assert lack.startswith(said)


def test_another_user(root: Path) -> None:
    _users(root)
    assert way_back(str(root), HERE, SYSTEMD).how == "ssh as joe, at 192.0.2.7"


def test_the_first_value_counts(root: Path) -> None:
    _config(root, "PermitRootLogin prohibit-password\n")
    (root / "etc/ssh/sshd_config").write_text("PermitRootLogin no\n")
    assert way_back(str(root), HERE, SYSTEMD).how


def test_no_network(root: Path) -> None:
    assert way_back(str(root), [], SYSTEMD).lacks == ("the machine has no address on a network",)


def test_nothing_at_all(tmp_path: Path) -> None:
    assert len(way_back(str(tmp_path), [], SYSTEMD).lacks) == 3


def test_enabled_by_the_vendor(tmp_path: Path) -> None:
    wants = tmp_path / "usr/lib/systemd/system/sockets.target.wants"
    wants.mkdir(parents=True)
    os.symlink("../sshd.socket", wants / "sshd.socket")
    assert is_enabled(str(tmp_path), "sshd.socket")
    assert not is_enabled(str(tmp_path), "sshd.service")


def test_files_and_links_are_removed_where_the_block_fails(tmp_path: Path) -> None:
    files = {str(tmp_path / "a/b"): "content", str(tmp_path / "a/c"): "-> ../b", str(tmp_path / "n.nmconnection"): "x"}
    with suppress(KeyError), written_files(files):
        assert (tmp_path / "a/b").read_text() == "content"
        assert os.readlink(tmp_path / "a/c") == "../b"
        assert (tmp_path / "n.nmconnection").stat().st_mode & 0o777 == 0o600
        raise KeyError
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
    with written_files(files), written_files(files):
        pass
    assert (tmp_path / "a/b").read_text() == "content"


def test_files_and_links_that_were_there_are_there_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("before")
    with suppress(KeyError), written_files({str(tmp_path / "file"): "-> new", str(tmp_path / "link"): "new"}):
        assert (tmp_path / "link").read_text() == "new"
        raise KeyError
    assert (tmp_path / "file").read_text() == "before"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert os.readlink(tmp_path / "link") == "before"


def test_units_that_go_back() -> None:
    units = rollback_units(300)
    (timer,) = (content for path, content in units.items() if path.endswith("system/bootc-live-rollback.timer"))
    assert "OnActiveSec=300" in timer.splitlines()
    assert sum(content == "-> ../bootc-live-rollback.timer" for content in units.values()) == 2
    (service,) = (content for path, content in units.items() if path.endswith(".service"))
    assert {f"ConditionPathExists=!{CONFIRMED}", "SuccessAction=reboot-force"} <= set(service.splitlines())


@pytest.mark.parametrize("name", ["etc/rc2.d/S02ssh", "etc/runlevels/default/sshd", "etc/service/dropbear/run"])
def test_started_by_another_init(name: str, root: Path) -> None:
    other = Program("/sbin/init", ("/sbin/init",), {}, init=True)
    (root / UNIT).unlink()
    assert "nothing starts its ssh server" in way_back(str(root), HERE, other).lacks[0]
    (root / name).parent.mkdir(parents=True)
    (root / name).touch()
    assert way_back(str(root), HERE, other).how


def test_a_program_that_is_no_init(root: Path) -> None:
    """Only if it is the ssh server itself, it is known to be one."""
    assert way_back(str(root), HERE, Program("/usr/sbin/sshd", ("sshd", "-D"), {})).how
    found = way_back(str(root), HERE, Program("/opt/run", ("run",), {}))
    assert found.lacks == ("'run' is to run, which may not start its ssh server",)
