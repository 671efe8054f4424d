"""Waiting for block devices, in the real loop of each dracut's initqueue."""

from __future__ import annotations

import pytest

from tests.roots.root import Root

# A /dev of our own, in which devices may come up; $1 is one that does, a second after the start. Time is what the loop
# sleeps, half a second each time, and /proc/uptime tells no other: a busy machine changes nothing.
WAIT = r"""
: >/run/null && mount --bind /dev/null /run/null
mount -t tmpfs tmpfs /dev
: >/dev/null && mount --bind /run/null /dev/null
: >/dev/kmsg
echo 0 >/run/slept
echo "1000.00 0.00" >/run/uptime
mount --bind /run/uptime /proc/uptime
mkdir /run/bin
cat >/run/bin/sleep <<'END'
#!/bin/sh
[ "$1" = 0.5 ] || echo "sleep $1"
read -r slept </run/slept
slept=$((slept + 1))
echo "$slept" >/run/slept
echo "$((1000 + slept / 2)).$((slept % 2 * 5))0 0.00" >/run/uptime
if [ "$slept" = 2 ] && [ -n "$device" ]; then
    mkdir -p "${device%/*}"
    : >"$device"
fi
END
chmod 755 /run/bin/sleep
export device="$1" PATH="/run/bin:$PATH"
. "$lib"
root=$(getarg root=)
. "$hooks/parse-bootc-live.sh"
for queue in "$dracut"/[0-9][0-9]dracut-systemd/dracut-initqueue.sh \
    "$dracut"/[0-9][0-9]initqueue/dracut-initqueue.sh; do
    [ ! -e "$queue" ] || dash "$queue" 2>&1
done
cat /run/slept
ls "$hookdir"/initqueue/*/*bootc-live*
cat "$hookdir"/emergency/* 2>/dev/null
"""
USB = "/dev/disk/by-label/USB"
UP = 1.0
"""Seconds after which a device comes up."""
DEVICES = (
    ("root=bootc-live:LABEL=USB:/images/root.oci", USB),
    ('root="bootc-live:LABEL=MY STICK/1:/root.oci"', r"/dev/disk/by-label/MY\x20STICK\x2f1"),
    ("root=bootc-live:PARTUUID=1-2:/a", "/dev/disk/by-partuuid/1-2"),
    ("root=bootc-live:/dev/disk/by-path/pci-0000:00:1f.2-ata-1:/a", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"),
    ("root=bootc-live:/missing bootc.live.fallback=LABEL=USB:/a", USB),
    # The first of two devices is there: the second one need not be.
    ("root=bootc-live:LABEL=USB:/a bootc.live.fallback=LABEL=OTHER:/a", USB),
)
NOT_NEEDED = (
    "root=bootc-live:docker://registry.example/os bootc.live.fallback=LABEL=USB:/a",
    "root=bootc-live:/proc/cmdline bootc.live.fallback=LABEL=USB:/a",
    "root=bootc-live:/root.oci",
    "root=LABEL=USB bootc.live.fallback=LABEL=USB:/a",
)
OTHER_SOURCES = ("", "bootc.live.fallback=docker://registry.example/os", "bootc.live.fallback=/a")
ARCHIVE = "root=bootc-live:/root.oci"
STATE = "/dev/disk/by-label/STATE"
STATES = (
    ("bootc.live.state=LABEL=STATE", STATE),
    ("bootc.live.state=LABEL=STATE bootc.live.state.required", STATE),
    ("bootc.live.state=PARTUUID=1-2", "/dev/disk/by-partuuid/1-2"),
    ("bootc.live.state=/dev/missing", "/dev/missing"),
)
NO_STATE = ("root=LABEL=X bootc.live.state=LABEL=STATE", f"{ARCHIVE} bootc.live.state.required")
GIVEN_UP = "root=bootc-live:LABEL=USB:/a rd.retry=2"
MERE_STATE = f"{ARCHIVE} bootc.live.state=LABEL=STATE rd.retry=60"
REQUIRED_STATE = f"{ARCHIVE} bootc.live.state=LABEL=STATE bootc.live.state.required rd.retry=18"
WAITED = (
    *((f"{cmdline} rd.retry=60", device) for cmdline, device in DEVICES),
    *((f"{ARCHIVE} {cmdline} rd.retry=60", device) for cmdline, device in STATES),
    *((f"{cmdline} rd.retry=60", "") for cmdline in (*NOT_NEEDED, *NO_STATE)),
    *((f"{GIVEN_UP} {more}", "") for more in OTHER_SOURCES),
    (MERE_STATE, ""),
    (REQUIRED_STATE, ""),
)


def waited(root: Root, cmdline: str, comes_up: str = "") -> tuple[list[str], float]:
    """What the initqueue said, and the seconds it slept."""
    said = root.stage(WAIT, cmdline, (comes_up,), among=WAITED, ok=False).stdout.splitlines()
    (slept,) = (line for line in said if line.isdecimal())
    return [line for line in said if line != slept], int(slept) / 2


@pytest.mark.parametrize(("cmdline", "device"), DEVICES)
def test_until_the_device_is_there(root: Root, cmdline: str, device: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60", device)
    assert not [line for line in said if "timeout scripts" in line]
    assert seconds == UP


@pytest.mark.parametrize("cmdline", NOT_NEEDED)
def test_not_for_a_mere_fallback(root: Root, cmdline: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60")
    assert said == []
    assert seconds == 0


@pytest.mark.parametrize("more", OTHER_SOURCES)
def test_not_for_ever(root: Root, more: str) -> None:
    """After rd.retry= the boot goes on, and nothing is left that dracut would complain of beside our own error."""
    said, seconds = waited(root, f"{GIVEN_UP} {more}")
    assert seconds == 2
    assert [line for line in said if "starting timeout scripts" in line]
    assert not [line for line in said if "Could not boot" in line or "does not exist" in line]
    assert "Not all disks have been found" not in "".join(said)
    assert not [line for line in said if line.startswith("/") and line.endswith("bootc-live-device.sh")]


@pytest.mark.parametrize(("cmdline", "device"), STATES)
def test_until_the_state_is_there(root: Root, cmdline: str, device: str) -> None:
    said, seconds = waited(root, f"{ARCHIVE} {cmdline} rd.retry=60", device)
    assert not [line for line in said if "timeout scripts" in line]
    assert seconds == UP


def test_not_long_for_state_that_can_be_done_without(root: Root) -> None:
    said, seconds = waited(root, MERE_STATE)
    assert seconds == 10
    assert not [line for line in said if "timeout scripts" in line]


def test_longer_for_state_that_is_required(root: Root) -> None:
    """Until dracut gives up; then bootc-live says what is missing."""
    said, seconds = waited(root, REQUIRED_STATE)
    assert seconds == 13
    assert [line for line in said if "starting timeout scripts" in line]
    assert not [line for line in said if line.startswith("/") and line.endswith("bootc-live-state.sh")]


@pytest.mark.parametrize("cmdline", NO_STATE)
def test_not_for_state_that_nobody_asked_for(root: Root, cmdline: str) -> None:
    said, seconds = waited(root, f"{cmdline} rd.retry=60")
    assert said == []
    assert seconds == 0
