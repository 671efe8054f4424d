"""Waiting for block devices, in the real loop of each dracut's initqueue."""

from __future__ import annotations

import time

import pytest

from tests.roots.root import Root

# A /dev of our own, in which devices may come up; $1 is one that does, a second after the start.
WAIT = r"""
: >/run/null && mount --bind /dev/null /run/null
mount -t tmpfs tmpfs /dev
: >/dev/null && mount --bind /run/null /dev/null
: >/dev/kmsg
. "$lib"
root=$(getarg root=)
. "$hooks/parse-bootc-live.sh"
if [ -n "$1" ]; then
    (sleep 1; mkdir -p "${1%/*}"; echo up >/run/up; : >"$1") &
fi
for queue in "$dracut"/[0-9][0-9]dracut-systemd/dracut-initqueue.sh \
    "$dracut"/[0-9][0-9]initqueue/dracut-initqueue.sh; do
    [ ! -e "$queue" ] || dash "$queue" 2>&1
done
[ ! -e /run/up ] || cat /run/up
ls "$hookdir"/initqueue/*/*bootc-live*
cat "$hookdir"/emergency/* 2>/dev/null
"""
USB = "/dev/disk/by-label/USB"


def waited(root: Root, cmdline: str, comes_up: str = "") -> tuple[list[str], float]:
    """What the initqueue said, and the seconds it took."""
    began = time.monotonic()
    said = root.stage(WAIT, cmdline, (comes_up,), ok=False).stdout.splitlines()
    return said, time.monotonic() - began


@pytest.mark.parametrize(
    ("cmdline", "device"),
    [
        ("root=bootc-live:LABEL=USB:/images/root.oci", USB),
        ('root="bootc-live:LABEL=MY STICK/1:/root.oci"', r"/dev/disk/by-label/MY\x20STICK\x2f1"),
        ("root=bootc-live:UUID=1234-ABCD:/a", "/dev/disk/by-uuid/1234-ABCD"),
        ("root=bootc-live:PARTLABEL=p:/a", "/dev/disk/by-partlabel/p"),
        ("root=bootc-live:PARTUUID=1-2:/a", "/dev/disk/by-partuuid/1-2"),
        ("root=bootc-live:/dev/disk/by-path/pci-0000:00:1f.2-ata-1:/a", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
        ("root=bootc-live:/missing bootc.live.fallback=LABEL=USB:/a", USB),
        # The first of two devices is there: the second one need not be.
        ("root=bootc-live:LABEL=USB:/a bootc.live.fallback=LABEL=OTHER:/a", USB),
    ],
)
def test_until_the_device_is_there(root: Root, cmdline: str, device: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60", device)
    assert "up" in said
    assert not [line for line in said if "timeout scripts" in line]
    assert seconds < 30


@pytest.mark.parametrize(
    "cmdline",
    [
        "root=bootc-live:docker://registry.example/os bootc.live.fallback=LABEL=USB:/a",
        "root=bootc-live:/proc/cmdline bootc.live.fallback=LABEL=USB:/a",
        "root=bootc-live:/root.oci",
        "root=LABEL=USB bootc.live.fallback=LABEL=USB:/a",
    ],
)
def test_not_for_a_mere_fallback(root: Root, cmdline: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60")
    assert said == []
    assert seconds < 30


@pytest.mark.parametrize("more", ["", "bootc.live.fallback=docker://registry.example/os", "bootc.live.fallback=/a"])
def test_not_for_ever(root: Root, more: str) -> None:
    """After rd.retry= the boot goes on, and nothing is left that dracut would complain of beside our own error."""
    said, seconds = waited(root, f"root=bootc-live:LABEL=USB:/a rd.retry=2 {more}")
    assert 1 < seconds < 20
    assert [line for line in said if "starting timeout scripts" in line]
    assert not [line for line in said if "Could not boot" in line or "does not exist" in line]
    assert "Not all disks have been found" not in "".join(said)
    assert not [line for line in said if line.startswith("/") and line.endswith("bootc-live-device.sh")]


ARCHIVE = "root=bootc-live:/root.oci"
STATE = "/dev/disk/by-label/STATE"


@pytest.mark.parametrize(
    ("cmdline", "device"),
    [
        ("bootc.live.state=LABEL=STATE", STATE),
        ("bootc.live.state=LABEL=STATE bootc.live.state.required", STATE),
        ("bootc.live.state=LABEL=STATE bootc.live.state.required=0", STATE),
        ("bootc.live.state=PARTUUID=1-2", "/dev/disk/by-partuuid/1-2"),
        ("bootc.live.state=/dev/missing", "/dev/missing"),
    ],
)
def test_until_the_state_is_there(root: Root, cmdline: str, device: str) -> None:
    said, seconds = waited(root, f"{ARCHIVE} {cmdline} rd.retry=60", device)
    assert "up" in said
    assert not [line for line in said if "timeout scripts" in line]
    assert seconds < 9


def test_not_long_for_state_that_can_be_done_without(root: Root) -> None:
    said, seconds = waited(root, f"{ARCHIVE} bootc.live.state=LABEL=STATE rd.retry=60")
    assert 9 < seconds < 30
    assert not [line for line in said if "timeout scripts" in line]


def test_longer_for_state_that_is_required(root: Root) -> None:
    """Until dracut gives up; then bootc-live says what is missing."""
    said, seconds = waited(root, f"{ARCHIVE} bootc.live.state=LABEL=STATE bootc.live.state.required rd.retry=24")
    assert 14 < seconds < 40
    assert [line for line in said if "starting timeout scripts" in line]
    assert not [line for line in said if line.startswith("/") and line.endswith("bootc-live-state.sh")]


@pytest.mark.parametrize(
    "cmdline", ["root=LABEL=X bootc.live.state=LABEL=STATE", f"{ARCHIVE} bootc.live.state.required"]
)
def test_not_for_state_that_nobody_asked_for(root: Root, cmdline: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60")
    assert said == []
    assert seconds < 30
