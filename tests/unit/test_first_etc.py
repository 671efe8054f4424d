"""What makes a machine's first /etc its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.landing.disk.first_etc import Identity, read_identity
from bootc_live.landing.disk.make import ImageTree


class Image:
    """An image's tree whose /etc is made by a function."""

    def __init__(self, fill: Callable[[Path], object]) -> None:
        self.fill = fill
        self.recorder = Recorder(quiet=True)

    def has(self, _path: str) -> bool:
        return False

    def write(self, path: str, where: str) -> bool:
        assert path == "etc"
        os.mkdir(where)
        self.fill(Path(where))
        return True


def made(
    where: Path, identity: Identity, fill: Callable[[Path], object] = lambda _: None
) -> dict[str, tuple[int, bytes]]:
    identity(cast("ImageTree", Image(fill)), str(where))
    return {
        str(path.relative_to(where)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in where.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_everything(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("ssh-ed25519 AAAA me\n")
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds/passwd.hashed-password.root").write_text("x")
    identity = read_identity("node-1.example", str(tmp_path / "keys"), str(tmp_path / "creds"))

    def image(etc: Path) -> None:
        (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (etc / "hostname").symlink_to("/usr/lib/hostname")
        (etc / "ssh/sshd_config.d").mkdir(parents=True)
        (etc / "other").write_text("as it was")

    found = made(tmp_path / "etc", identity, image)
    assert found == {
        "machine-id": (0o444, b""),
        "hostname": (0o644, b"node-1.example\n"),
        "ssh/authorized_keys.d/root": (0o600, b"ssh-ed25519 AAAA me\n"),
        "ssh/sshd_config.d/10-bootc-live.conf": (
            0o644,
            b"AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n",
        ),
        "credstore/passwd.hashed-password.root": (0o600, b"x"),
        "other": (0o644, b"as it was"),
    }
    assert stat.S_IMODE((tmp_path / "etc/credstore").stat().st_mode) == 0o700


def test_nothing_asked(tmp_path: Path) -> None:
    """An image without a machine's number gets none here: systemd makes one where there is no file, too."""
    assert made(tmp_path / "etc", Identity()) == {}


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hostname").write_text("untouched")

    def image(etc: Path) -> None:
        (etc / "ssh").symlink_to("../outside")
        (etc / "hostname").symlink_to(outside / "hostname")
        (etc / "credstore").symlink_to(outside)

    made(tmp_path / "etc", Identity("x", b"key", {"a": b"b"}), image)
    assert (outside / "hostname").read_text() == "untouched"
    assert os.listdir(outside) == ["hostname"]


@pytest.mark.parametrize(
    ("name", "keys", "credentials", "message"),
    [
        ("", None, None, "--hostname '' is not a host name"),
        ("a b", None, None, "--hostname 'a b'"),
        ("x" * 65, None, None, "--hostname"),
        ("a\n", None, None, "--hostname"),
        (None, "/nowhere", None, "--root-ssh-authorized-keys '/nowhere' cannot be read"),
        (None, "/", None, "--root-ssh-authorized-keys '/' cannot be read"),
        (None, "/dev/zero", None, "is not a regular file"),
        (None, None, "/nowhere", "--credentials '/nowhere' cannot be read"),
        (None, None, "/dev", "is not a regular file"),
    ],
)
def test_mistakes(name: str | None, keys: str | None, credentials: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_identity(name, keys, credentials)
