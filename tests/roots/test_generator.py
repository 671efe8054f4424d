"""The generator under dash, beside the real library of dracut, and what systemd makes of its units."""

from __future__ import annotations

import pytest

from tests.roots.root import REPO, Root, Row

# As systemd runs generators: three directories, a bare environment, nothing sourced before.
GENERATE = """
mkdir -p /run/normal /run/early /run/late
env -i PATH=/usr/sbin:/usr/bin SYSTEMD_IN_INITRD=1 dash "$hooks/bootc-live-generator.sh" \\
    /run/normal /run/early /run/late
echo "status=$?"
cd /run
find normal early late -mindepth 1 \\( -type f -printf '%p\\n' -o -type l -printf '%p -> %l\\n' \\) | sort
for file in early/sysroot.mount early/bootc-live.service.d/limit.conf early/bootc-live.service.d/sources.conf; do
    [ ! -e "$file" ] || cat "$file"
done
"""

MOUNT_UNIT = [
    "[Unit]",
    "Description=Root in RAM made by bootc-live",
    "Before=initrd-root-fs.target",
    "Requires=bootc-live.service",
    "After=bootc-live.service",
    "[Mount]",
    "What=bootc-live",
    "Where=/sysroot",
]
LIMIT = "early/bootc-live.service.d/limit.conf"
LINK = "early/initrd-root-fs.target.requires/sysroot.mount -> ../sysroot.mount"
NETWORK_UNIT = [
    "[Unit]",
    "Wants=network-online.target",
    "After=network-online.target dracut-initqueue.service dracut-pre-mount.service",
]
DEVICE_UNIT = ["[Unit]", "After=dracut-initqueue.service dracut-pre-mount.service"]
ARCHIVES = (
    "root=bootc-live:/root.oci quiet",
    "root=/dev/sda root=bootc-live:/a",
    "root=bootc-live:/a bootc.live.fallback=/b rd.net.wait-any-if",
)
WAITING = (
    ("root=bootc-live:docker://registry.example/os", NETWORK_UNIT),
    ("root=bootc-live:nfs:h.example:/srv/root.oci", NETWORK_UNIT),
    ("root=bootc-live:/a bootc.live.fallback=/b bootc.live.fallback=https://h.example/a", NETWORK_UNIT),
    ("root=bootc-live:LABEL=USB:/a bootc.live.fallback=ftp://h.example/a", NETWORK_UNIT),
    ("root=bootc-live:LABEL=USB:/a", DEVICE_UNIT),
    ('root="bootc-live:LABEL=MY STICK:/a"', DEVICE_UNIT),
    ("root=bootc-live:/a bootc.live.fallback=UUID=1-2:/a", DEVICE_UNIT),
    ("root=bootc-live:/a bootc.live.state=LABEL=STATE", DEVICE_UNIT),
)
OTHERS = (
    "",
    "root",
    "root=",
    "root=/dev/sda1",
    "root=bootc-live:/x root=/dev/sda1",
    "bootc.live.fallback=LABEL=USB:/x",
)
GENERATED: tuple[Row, ...] = tuple((cmdline,) for cmdline in (*ARCHIVES, *(cmdline for cmdline, _ in WAITING), *OTHERS))


def generated(root: Root, cmdline: str) -> list[str]:
    return root.stage(GENERATE, cmdline, among=GENERATED).stdout.splitlines()


@pytest.mark.parametrize("cmdline", ARCHIVES)
def test_an_archive_waits_for_nothing(root: Root, cmdline: str) -> None:
    limit = ["[Service]", f"TimeoutStartSec={1800 + 3600 * (2 if 'fallback' in cmdline else 1)}"]
    assert generated(root, cmdline) == ["status=0", LIMIT, LINK, "early/sysroot.mount", *MOUNT_UNIT, *limit]


@pytest.mark.parametrize(("cmdline", "unit"), WAITING)
def test_others_wait_for_what_they_need(root: Root, cmdline: str, unit: list[str]) -> None:
    assert generated(root, cmdline) == [
        "status=0",
        LIMIT,
        "early/bootc-live.service.d/sources.conf",
        LINK,
        "early/sysroot.mount",
        *MOUNT_UNIT,
        "[Service]",
        f"TimeoutStartSec={1800 + 3600 * (1 + cmdline.count('fallback='))}",
        *unit,
    ]


@pytest.mark.parametrize("cmdline", OTHERS)
def test_roots_of_others(root: Root, cmdline: str) -> None:
    assert generated(root, cmdline) == ["status=0"]


def test_a_second_run_changes_nothing(root: Root) -> None:
    twice = GENERATE.replace("env -i", "env -i true; env -i", 1)
    script = f"{GENERATE} >/dev/null; {twice}"
    limit = ["[Service]", "TimeoutStartSec=5400"]
    assert root.stage(script, "root=bootc-live:/a").stdout.splitlines()[-11:] == [
        "early/sysroot.mount",
        *MOUNT_UNIT,
        *limit,
    ]


# How it is typed, and the seconds of it that count.
TOTALS = (
    ("", 3600),
    ("=30s", 30),
    ("=5m", 300),
    ("=2H", 7200),
    ("=1.5h", 7200),
    ("=0.2s", 1),
    ("=0010", 10),
    ("=999999999", 999_999_999),
    # Python will say what is wrong with these.
    ("=", 3600),
    ("=-5", 3600),
    ("=0", 0),
    ("=99999999999999999999", 3600),
    ("=.5h", 3600),
    ("=$(reboot)", 3600),
)
LIMITED = tuple((f"root=bootc-live:/a bootc.live.retry.total{total}",) for total, _ in TOTALS)


@pytest.mark.parametrize(("total", "seconds"), TOTALS)
def test_the_time_limit_follows_the_argument(root: Root, total: str, seconds: int) -> None:
    said = root.stage(GENERATE, f"root=bootc-live:/a bootc.live.retry.total{total}", among=LIMITED).stdout
    assert f"TimeoutStartSec={seconds + 1800}\n" in said


VERIFY = """
mkdir -p /run/normal /etc/systemd/system
env -i PATH=/usr/sbin:/usr/bin dash "$hooks/bootc-live-generator.sh" /run/normal /etc/systemd/system /run/normal
cp "$1" /etc/systemd/system/bootc-live.service
chmod 755 /usr/lib/bootc-live/boot
systemd-analyze verify --man=no --recursive-errors=no bootc-live.service sysroot.mount 2>&1
"""


SERVICE = str(REPO / "modules.d/50bootc-live/bootc-live.service")
SOURCES = ("/root.oci", "docker://registry.example/os", "LABEL=USB:/root.oci")
VERIFIED = tuple((f"root=bootc-live:{source}", SERVICE) for source in SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_systemd_understands_the_units(root: Root, source: str) -> None:
    said = root.stage(VERIFY, f"root=bootc-live:{source}", (SERVICE,), among=VERIFIED).stdout
    assert [line for line in said.splitlines() if "bootc-live" in line or "sysroot" in line] == []
