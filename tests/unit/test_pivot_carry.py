"""What a new root is given of the machine that it takes over: only what it lacks."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from bootc_live.landing.pivot import carry
from bootc_live.landing.pivot.carry import carry_over

RELEASE = os.uname().release
NAME = os.uname().nodename


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The system that runs."""
    root = tmp_path / "old"
    files = {
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/resolv.conf": "nameserver 192.0.2.1\n",
        "etc/ssh/ssh_host_ed25519_key": "secret",
        "etc/ssh/ssh_host_ed25519_key.pub": "public",
        "etc/ssh/sshd_config": "",
        "root/.ssh/authorized_keys": "ssh-ed25519 AAAA me\n",
        f"usr/lib/modules/{RELEASE}/modules.dep": "",
        f"usr/lib/modules/{RELEASE}/kernel/a.ko": "module",
        f"usr/lib/modules/{RELEASE}/vmlinuz": "kernel",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (root / "etc/ssh/ssh_host_ed25519_key").chmod(0o600)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the directories that an image has, and none of the files."""
    root = tmp_path / "new"
    for name in ("etc/ssh", "root", "usr/lib"):
        (root / name).mkdir(parents=True)
    return root


@pytest.fixture(autouse=True)
def _kernel_with_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry, "needs_modules", lambda: True)


def test_everything(root: Path, old: Path) -> None:
    names = [each.name for each in carry_over(str(root), str(old))]
    assert names == [
        f"host name {NAME}",
        "machine-id",
        "resolver",
        "1 ssh host keys",
        "authorized ssh keys of root",
        f"modules of the kernel {RELEASE}",
    ]
    assert (root / "etc/hostname").read_text() == f"{NAME}\n"
    assert (root / "etc/machine-id").read_text() == (old / "etc/machine-id").read_text()
    assert (root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    key = root / "etc/ssh/ssh_host_ed25519_key"
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("secret", 0o600)
    assert not (root / "etc/ssh/sshd_config").exists()
    authorized = root / "root/.ssh/authorized_keys"
    assert authorized.read_text() == "ssh-ed25519 AAAA me\n"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (authorized, authorized.parent)] == [0o600, 0o700]
    modules = root / "lib/modules" / RELEASE
    assert sorted(os.listdir(modules)) == ["kernel", "modules.dep"]


def test_nothing_that_is_there(root: Path, old: Path) -> None:
    theirs = {
        "etc/hostname": "theirs\n",
        "etc/machine-id": "f" * 32 + "\n",
        "etc/resolv.conf": "nameserver 203.0.113.1\n",
        "etc/ssh/ssh_host_rsa_key": "theirs",
        "root/.ssh/authorized_keys": "theirs\n",
        f"usr/lib/modules/{RELEASE}/modules.dep": "theirs",
    }
    for name, content in theirs.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    assert carry_over(str(root), str(old)) == []
    for name, content in theirs.items():
        assert (root / name).read_text() == content


@pytest.mark.parametrize("empty", ["", "\n", "uninitialized\n"])
def test_machine_id_that_is_none(empty: str, root: Path, old: Path) -> None:
    (root / "etc/machine-id").write_text(empty)
    carry_over(str(root), str(old))
    assert (root / "etc/machine-id").read_text() == (old / "etc/machine-id").read_text()


def test_resolver_behind_a_stub(root: Path, old: Path) -> None:
    (old / "etc/resolv.conf").write_text("nameserver 127.0.0.53\nsearch example\n")
    behind = old / "run/systemd/resolve/resolv.conf"
    behind.parent.mkdir(parents=True)
    behind.write_text("nameserver 192.0.2.53\n")
    carry_over(str(root), str(old))
    assert (root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\n"


def test_resolver_that_a_service_of_the_new_system_writes(root: Path, old: Path) -> None:
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    carry_over(str(root), str(old))
    assert (root / "etc/resolv.conf").is_symlink()


def test_no_link_leads_out_of_the_root(root: Path, old: Path, tmp_path: Path) -> None:
    """A link of the image to a file of this machine is replaced, not followed."""
    outside = tmp_path / "outside"
    outside.write_text("before")
    os.symlink(outside, root / "etc/hostname")
    os.rmdir(root / "root")
    os.symlink("/var/roothome", root / "root")
    (root / "var/roothome").mkdir(parents=True)
    carry_over(str(root), str(old))
    assert outside.read_text() == "before"
    assert (root / "etc/hostname").read_text() == f"{NAME}\n"
    assert (root / "var/roothome/.ssh/authorized_keys").exists()


def test_directories_that_are_links_out_of_the_root(root: Path, old: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "ssh").mkdir(parents=True)
    for name in ("etc", "root"):
        subprocess.run(["rm", "-r", root / name], check=True)
        os.symlink(outside, root / name)
    carry_over(str(root), str(old))
    assert sorted(os.listdir(outside)) == ["ssh"]
    assert os.listdir(outside / "ssh") == []


def test_a_root_with_nothing(tmp_path: Path, old: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    carry_over(str(bare), str(old))
    assert (bare / "etc/hostname").exists()
