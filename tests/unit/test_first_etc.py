"""What makes a machine's first /etc its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from bootc_live.base.errors import ConfigError, ImageError
from bootc_live.base.log import Recorder
from bootc_live.landing.disk.first_etc import Identity, is_judged, read_identity
from bootc_live.landing.disk.make import ImageTree
from bootc_live.landing.disk.partitions.model import Mounted
from bootc_live.rootfs.disk_units import ImageTree as UnitsOfImage
from tests.lib.tar_writer import file, symlink
from tests.unit.merging import data_file, merged


class Image:
    """An image's tree whose /etc is made by a function."""

    def __init__(self, fill: Callable[[Path], object]) -> None:
        self.fill = fill
        self.recorder = Recorder(quiet=True)

    def has(self, _path: str) -> bool:
        return False

    def is_empty_directory(self, path: str) -> bool:
        return path == "/boot"

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


def test_boot_partition_is_mounted(tmp_path: Path) -> None:
    identity = Identity(boot=Mounted("/x", "PARTUUID=1", "vfat"))

    def image(etc: Path) -> None:
        (etc / "fstab").write_bytes(b"# \xff\nUUID=1 /data ext4 nofail 0 2\n")

    mode, content = made(tmp_path / "etc", identity, image)["fstab"]
    assert mode == 0o644
    assert content.startswith(b"# \xff\nUUID=1 /data ext4 nofail 0 2\n")
    assert b"\nPARTUUID=1 /boot vfat noauto,nofail," in content


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
        *(
            (name, None, None, "--hostname")
            for name in ("-a..b-", "-a", "a-", "a..b", ".a", "a.", "é", "a.-b", "x" * 64)
        ),
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


@pytest.mark.parametrize("name", ["9", "x" * 63, f"{'x' * 60}.a-b", "a--b.c"])
def test_host_names(name: str) -> None:
    assert read_identity(name, None, None).hostname == name


@pytest.mark.parametrize(
    ("fill", "path"),
    [
        (lambda etc: (etc / "fstab").mkdir(), "fstab"),
        (lambda etc: (etc / "ssh").write_text(""), "ssh"),
        (lambda etc: (etc / "hostname").mkdir(), "hostname"),
        (lambda etc: ((etc / "ssh").mkdir(), (etc / "ssh/sshd_config.d").write_text("")), "ssh/sshd_config.d"),
    ],
)
def test_what_is_in_the_way(fill: Callable[[Path], object], path: str, tmp_path: Path) -> None:
    """It is the image's fault, not the disk's."""
    with pytest.raises(ImageError, match=f"^'/etc/{path}' of the image is in the way"):
        made(tmp_path / "etc", Identity("x", b"key", boot=Mounted("/x", "PARTUUID=1", "vfat")), fill)


@pytest.mark.parametrize("target", ["/usr/fstab", "../usr/fstab", "nothing"])
def test_fstab_elsewhere_stays(target: str, tmp_path: Path) -> None:
    made(
        tmp_path / "etc", Identity(boot=Mounted("/x", "UUID=1", "vfat")), lambda etc: (etc / "fstab").symlink_to(target)
    )
    assert os.readlink(tmp_path / "etc/fstab") == target


JUDGE, BLESS = "bootc-live-health.service", "systemd-bless-boot"
SYSTEM, ETC = "usr/lib/systemd/system", "systemd/system"
WANTS = f"multi-user.target.wants/{JUDGE}"
UNIT = file(f"{SYSTEM}/{JUDGE}", "[Service]\n")
GENERATOR = file(f"usr/lib/systemd/system-generators/{BLESS}-generator", "x")
OWN = (file(f"{SYSTEM}/{BLESS}.service", "[Service]\n"), GENERATOR)
ENABLED = {f"{ETC}/{WANTS}": f"link:/{SYSTEM}/{JUDGE}"}
FSTAB = {"fstab": "# /boot\nUUID=1-2 /efi vfat defaults 0 2\n"}


@dataclass(frozen=True)
class Judged:
    """An image's members and a machine's /etc, whose files are text or links; and whether a boot is called good."""

    name: str
    image: tuple[bytes, ...]
    etc: dict[str, str]
    judged: bool
    loader: str = "systemd-boot"
    cmdline: str = "quiet"


JUDGES = (
    Judged("nothing", (), {}, judged=False),
    Judged("enabled", (UNIT,), ENABLED, judged=True),
    Judged("gone in the image", (), ENABLED, judged=False),
    Judged("not enabled", (UNIT,), {}, judged=False),
    Judged("enabled by the image", (UNIT, symlink(f"{SYSTEM}/{WANTS}", f"../{JUDGE}")), {}, judged=True),
    Judged("enabled in the image's /etc alone", (UNIT, symlink(f"etc/{ETC}/{WANTS}", "x")), {}, judged=False),
    Judged("enabled in ostree's /usr/etc alone", (UNIT, symlink(f"usr/etc/{ETC}/{WANTS}", "x")), {}, judged=False),
    Judged("the machine's own unit", (), {**ENABLED, f"{ETC}/{JUDGE}": "[Service]\n"}, judged=True),
    Judged("masked", (UNIT,), {**ENABLED, f"{ETC}/{JUDGE}": "link:/dev/null"}, judged=False),
    Judged("masked by an argument", (UNIT,), ENABLED, False, cmdline=f"quiet systemd.mask={JUDGE}"),
    Judged("enabled by the first boot", (UNIT,), {"machine-id": "uninitialized\n"}, judged=True),
    Judged("with GRUB", (UNIT,), ENABLED, True, "grub"),
    Judged("systemd's, which finds the boot partition", OWN, FSTAB, judged=True),
    Judged("systemd's, with UKIs", OWN, FSTAB, True, "uki"),
    Judged("systemd's, which does not know GRUB", OWN, FSTAB, False, "grub"),
    Judged("systemd's, which finds no boot partition", OWN, {"fstab": "# /boot\n#x /efi\nx /srv ext4\n"}, judged=False),
    Judged("systemd's, which nothing starts", OWN[:1], FSTAB, judged=False),
    Judged("systemd's, which is not there", OWN[1:], FSTAB, judged=False),
    Judged("systemd's, masked", OWN, {**FSTAB, f"{ETC}/{BLESS}.service": "link:/dev/null"}, judged=False),
    Judged("systemd's, masked by an argument", OWN, FSTAB, False, cmdline=f"systemd.mask={BLESS}.service"),
)


@pytest.mark.parametrize("row", JUDGES, ids=[row.name for row in JUDGES])
def test_judged(row: Judged, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    for name, content in {"machine-id": "0123456789abcdef0123456789abcdef\n", **row.etc}.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("link:"):
            path.symlink_to(content.removeprefix("link:"))
        else:
            path.write_text(content)
    data = data_file(row.image)
    image = UnitsOfImage(merged(row.image), lambda node: data[node.offset : node.offset + node.size])
    assert is_judged(image, str(etc), row.loader, row.cmdline) == row.judged
