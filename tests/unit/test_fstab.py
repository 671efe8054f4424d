"""The fstab of an installed system: what it adds to the image's."""

from __future__ import annotations

from typing import Final

import pytest

from bootc_live.landing.disk.partitions.fstab import fstab
from bootc_live.landing.disk.partitions.model import Mounted

ESP: Final = Mounted("/x", "PARTUUID=5009a754-840c-4cd1-a41a-4762758b7185", "vfat")
XBOOTLDR: Final = Mounted("/y", "UUID=ABCD-EF01", "vfat")
EXT4: Final = Mounted("/y", "UUID=be99e68e-7142-4cd1-a41a-4762758b7185", "ext4")
OPTIONS: Final = "noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=2min"
MINE: Final = "# by hand\nUUID=1 /data ext4 nofail 0 2\n"


def line(one: Mounted, place: str) -> str:
    return f"{one.device} {place} {one.filesystem} {OPTIONS}{',umask=0077' * (one.filesystem == 'vfat')} 0 2"


def added(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("brought", "boot", "esp", "free", "expected"),
    [
        ("", ESP, None, ["/boot"], [line(ESP, "/boot")]),
        ("", ESP, None, ["/efi"], [line(ESP, "/efi")]),
        ("", ESP, None, ["/boot", "/efi"], [line(ESP, "/efi")]),
        ("", ESP, None, [], []),
        ("", EXT4, None, ["/boot"], [line(EXT4, "/boot")]),
        ("", XBOOTLDR, ESP, ["/boot", "/efi"], [line(XBOOTLDR, "/boot"), line(ESP, "/efi")]),
        ("", XBOOTLDR, ESP, ["/boot"], [line(XBOOTLDR, "/boot")]),
        ("", XBOOTLDR, ESP, ["/efi"], [line(ESP, "/efi")]),
        ("# UNCONFIGURED\n", ESP, None, ["/boot"], [line(ESP, "/boot")]),
        (MINE, ESP, None, ["/boot"], ["UUID=1 /data ext4 nofail 0 2", line(ESP, "/boot")]),
        (MINE.rstrip(), ESP, None, ["/boot"], ["UUID=1 /data ext4 nofail 0 2", line(ESP, "/boot")]),
        ("#UUID=1 /boot vfat\n", ESP, None, ["/boot"], [line(ESP, "/boot")]),
    ],
)
def test_lines(brought: str, boot: Mounted, esp: Mounted | None, free: list[str], expected: list[str]) -> None:
    made = fstab(brought, boot, esp, free.__contains__)
    assert made.startswith(brought)
    assert added(made) == expected
    # Who mounts the rest is said, too.
    assert "the initramfs mounts them" in made


@pytest.mark.parametrize(
    "brought",
    [
        "UUID=1 /boot vfat defaults 0 0\n",
        "UUID=1\t/boot/\tvfat\n",
        "UUID=1 /boot/efi vfat umask=0077 0 1",
        " LABEL=x /efi auto\n",
        "LABEL=x //efi auto\n",
        "LABEL=x /boot//efi/ auto\n",
    ],
)
def test_the_image_decides(brought: str) -> None:
    assert fstab(brought, XBOOTLDR, ESP, lambda _: True) == brought
    assert fstab("UUID=1 / ext4\n", ESP, None, lambda _: False) == "UUID=1 / ext4\n"
