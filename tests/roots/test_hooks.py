"""Our hooks under dash, beside the real library of dracut."""

from __future__ import annotations

import pytest

from tests.roots.root import Root, Row, variables

NETWORK = "bootc-live:docker://registry.example/os:stable"

PARSE = """
. "$lib"
root=$(getarg root=) || unset root
unset rootok
set >/run/before
. "$hooks/parse-bootc-live.sh"
status=$?
set >/run/after
echo "status=$status rootok=${rootok-unset}"
for file in /etc/cmdline.d/*; do [ -e "$file" ] && echo "${file##*/}: $(cat "$file")"; done
getargbool 0 rd.neednet && echo neednet
cd "$hookdir/initqueue" && ls finished/* timeout/* 2>/dev/null
echo ---
cat /run/before
echo ---
cat /run/after
"""

ARCHIVES = (
    "root=bootc-live:/root.oci",
    'root="bootc-live:/a b.oci" rw',
    "root=/dev/sda1 quiet root=bootc-live:/root.oci",
)
REMOTE = (
    f"root={NETWORK}",
    f"root=/dev/sda root={NETWORK} quiet",
    *(f"root=bootc-live:{scheme}://h.example/root.oci" for scheme in ("http", "https", "ftp", "tftp", "nfs")),
    "root=bootc-live:torrent://h.example/root.torrent",
    "root=bootc-live:NFS4:h.example:/srv/root.oci",
    "root=bootc-live:/root.oci bootc.live.fallback=/other.oci bootc.live.fallback=https://h.example/root.oci",
)
DEVICES = (
    "root=bootc-live:LABEL=USB:/images/root.oci",
    "root=bootc-live:PARTUUID=1-2:/root.oci",
    "root=bootc-live:/dev/nowhere1:/root.oci",
    "root=bootc-live:/missing.oci bootc.live.fallback=LABEL=USB:/root.oci",
)
NO_DEVICE_NEEDED = (
    # An archive that is there, and memory: nothing to wait for.
    "root=bootc-live:/proc/cmdline bootc.live.fallback=LABEL=USB:/root.oci",
    "root=bootc-live:/dev/shm/root.oci",
    "root=bootc-live:/dev/null:/root.oci",
)
OTHERS = (
    "",
    "bootc.live.fallback=docker://registry.example/os",
    "bootc.live.fallback=LABEL=USB:/root.oci root=LABEL=ROOT",
    "root",
    "root=/dev/sda1",
    "root=LABEL=bootc-live:",
    "root=bootc-live",
    "root=BOOTC-LIVE:/x",
    "root=bootc-live:/x root=UUID=1",
)
DEVICE_AND_NETWORK = "root=bootc-live:LABEL=USB:/root.oci bootc.live.fallback=docker://registry.example/os"
PARSED: tuple[Row, ...] = tuple(
    (cmdline,) for cmdline in (*ARCHIVES, *REMOTE, *DEVICES, DEVICE_AND_NETWORK, *NO_DEVICE_NEEDED, *OTHERS)
)


def parsed(root: Root, cmdline: str) -> tuple[list[str], set[str]]:
    """What the cmdline hook said and did, and the names of the variables it left behind."""
    said, before, after = root.stage(PARSE, cmdline, among=PARSED).stdout.split("---\n")
    return said.splitlines(), variables(after).keys() - variables(before).keys() - {"status"}


def test_version(every_root: Root) -> None:
    # 059 shows its version and fails.
    said = every_root.run("dracut", "--version", ok=False).stdout
    assert said.strip().startswith(f"dracut {every_root.dracut}")


@pytest.mark.parametrize("cmdline", ARCHIVES)
def test_an_archive_is_claimed_and_needs_no_network(root: Root, cmdline: str) -> None:
    assert parsed(root, cmdline) == (["status=0 rootok=1"], {"rootok"})


@pytest.mark.parametrize("cmdline", REMOTE)
def test_a_registry_is_claimed_and_needs_the_network(root: Root, cmdline: str) -> None:
    said = ["status=0 rootok=1", "50-bootc-live.conf: rd.neednet=1", "neednet"]
    assert parsed(root, cmdline) == (said, {"rootok"})


WAITS = ["finished/bootc-live-device.sh", "timeout/bootc-live-device.sh"]


@pytest.mark.parametrize("cmdline", DEVICES)
def test_a_device_is_waited_for(root: Root, cmdline: str) -> None:
    assert parsed(root, cmdline) == (["status=0 rootok=1", *WAITS], {"rootok"})


def test_a_device_and_the_network(root: Root) -> None:
    said = ["status=0 rootok=1", "50-bootc-live.conf: rd.neednet=1", "neednet", *WAITS]
    assert parsed(root, DEVICE_AND_NETWORK) == (said, {"rootok"})


@pytest.mark.parametrize("cmdline", NO_DEVICE_NEEDED)
def test_a_device_that_is_not_needed_is_not_waited_for(root: Root, cmdline: str) -> None:
    assert parsed(root, cmdline) == (["status=0 rootok=1"], {"rootok"})


@pytest.mark.parametrize("cmdline", OTHERS)
def test_roots_of_others_are_left_alone(root: Root, cmdline: str) -> None:
    assert parsed(root, cmdline) == (["status=0 rootok=unset"], set())


def test_a_root_claimed_by_another_stays_claimed(root: Root) -> None:
    script = '. "$lib"; root=nfs:x; rootok=0; . "$hooks/parse-bootc-live.sh"; echo "$root $rootok"'
    assert root.stage(script).stdout == "nfs:x 0\n"


MOUNT = """
printf '#!/bin/sh\\necho called >>/run/calls\\nexit %s\\n' "$1" >/usr/lib/bootc-live/boot
chmod 755 /usr/lib/bootc-live/boot
. "$lib"
[ -z "$2" ] || root=$2
(
    # The library's own die() does not always bear it.
    [ "$1" != 0 ] || set -u
    . "$hooks/mount-bootc-live.sh"
    echo "status=$?"
)
echo "subshell=$?"
[ ! -e /run/calls ] || cat /run/calls
cat "$kmsg" "$hookdir"/emergency/* 2>/dev/null || :
"""


ARCHIVE = "bootc-live:/root.oci"
CLAIMED = (ARCHIVE, NETWORK)
OF_OTHERS = ("", "/dev/sda1", "block:/dev/sda1", "nfs:bootc-live:/x")
MOUNTED = tuple(
    ("rd.shell=0", status, source_text)
    for status, roots in (("0", CLAIMED), ("1", (ARCHIVE, *OF_OTHERS)))
    for source_text in roots
)


def mounted(root: Root, status: int, source_text: str) -> list[str]:
    return root.stage(MOUNT, "rd.shell=0", (str(status), source_text), among=MOUNTED).stdout.splitlines()


@pytest.mark.parametrize("source_text", CLAIMED)
def test_the_mount_hook_boots_once(root: Root, source_text: str) -> None:
    assert mounted(root, 0, source_text) == ["status=0", "subshell=0", "called"]


def test_the_mount_hook_dies_with_a_message(root: Root) -> None:
    """And not only returns: dracut's own init would try the hook again and again."""
    message = "bootc-live could not make the root; its error is above, or it took too long"
    assert [line.replace("'", '"') for line in mounted(root, 1, ARCHIVE)] == [
        "subshell=1",
        "called",
        f"<24>dracut: FATAL: {message}",
        "<24>dracut: Refusing to continue",
        f'warn dracut: FATAL: "{message}"',
        "warn dracut: Refusing to continue",
    ]


HANGS = """
printf '#!/bin/sh\\ntrap "" TERM; echo called; sleep 300 & wait; sleep 300\\n' >/usr/lib/bootc-live/boot
chmod 755 /usr/lib/bootc-live/boot
. "$lib"
sed -i 's/1800/9/' /usr/lib/bootc-live/time-limit
sed -e 's/-k 60/-k 1/' "$hooks/mount-bootc-live.sh" >/run/mount.sh
root=bootc-live:/a
(. /run/mount.sh)
echo "subshell=$?"
"""


def test_a_program_that_hangs_is_ended(root: Root) -> None:
    """Whatever it does with signals, and with its own timers."""
    said = root.stage(HANGS, "rd.shell=0 root=bootc-live:/a bootc.live.retry.total=1").stdout.splitlines()
    assert said[-1] == "subshell=1"
    assert "called" in said


@pytest.mark.parametrize("source_text", OF_OTHERS)
def test_the_mount_hook_leaves_others_alone(root: Root, source_text: str) -> None:
    assert mounted(root, 1, source_text) == ["status=0", "subshell=0"]


BOOT = r"""
printf '#!/bin/sh\nprintf "%%s\\0" "$@" >/run/arguments\n' >/usr/bin/bootc-live
chmod 755 /usr/bin/bootc-live /usr/lib/bootc-live/boot
[ -z "$1" ] || export NEWROOT="$1"
[ -z "$2" ] || printf '%s\n' "$2" >/etc/cmdline.d/10-more.conf
dash /usr/lib/bootc-live/boot
(. "$lib"; getcmdline) >/run/text
cat /run/arguments
printf '%s\0' "$(cat /run/text)"
"""

ODD = (
    'root=bootc-live:/a  "b=c d" rootflags="x y" e=\'f  g\' \\h i\\ j $HOME `id` $(id) * ? [a-z] ~ -n -- "" '
    '#no ;no &no |no >no \t%s \\n "\'" end'
)


def test_the_text_is_handed_over_as_it_is(root: Root) -> None:
    *arguments, text, rest = root.stage(BOOT, ODD, ("", "")).stdout.split("\0")
    assert rest == ""
    assert arguments == ["boot", "--cmdline", text, "--sysroot", "/sysroot", "--errors-to", "/dev/kmsg"]
    assert text.strip() == ODD


def test_other_places_of_the_command_line_and_sysroot_count(root: Root) -> None:
    *arguments, text, _ = root.stage(BOOT, "rw", ("/elsewhere", 'bootclabel="a b"')).stdout.split("\0")
    assert arguments == ["boot", "--cmdline", text, "--sysroot", "/elsewhere", "--errors-to", "/dev/kmsg"]
    assert text.split() == ['bootclabel="a', 'b"', "rw"]


REFUSED = """
printf '#!/bin/sh\nexit 1\n' >/usr/bin/bootc-live
chmod 755 /usr/bin/bootc-live
printf '%s\n' "$1" >/etc/shadow
[ -z "$2" ] || mkdir -p "$2"
dash /usr/lib/bootc-live/boot
echo "status=$?"
"""


@pytest.mark.parametrize(
    ("cmdline", "shadow", "systemd", "said"),
    [
        ("", "root:!*:::::::", "/run/systemd/system", True),
        ("", "root:*:::::::", "/run/systemd/system", True),
        ("", "root:$y$j9T$x:::::::", "/run/systemd/system", False),
        ("", "root:!*:::::::", "", False),
        ("rd.shell=0", "root:!*:::::::", "/run/systemd/system", False),
        ("SYSTEMD_SULOGIN_FORCE=1", "root:!*:::::::", "/run/systemd/system", False),
    ],
)
def test_how_to_get_a_shell_is_said_where_nobody_could_log_in(
    cmdline: str, shadow: str, systemd: str, said: bool, root: Root
) -> None:
    done = root.stage(REFUSED, cmdline, (shadow, systemd))
    assert done.stdout == "status=1\n"
    assert ("SYSTEMD_SULOGIN_FORCE=1" in done.stderr) is said


LINKS = """
mkdir -p /run/systemd/netif/links
printf 'ADMIN_STATE=configured\\nDNS=10.0.2.3 10.0.2.4\\nDNSX=1.1.1.1\\nNTP=9.9.9.9\\n' >/run/systemd/netif/links/2
printf 'OPER_STATE=routable\\nDNS=fd00::3#dns.example\\nDOMAINS=example=x\\n' >/run/systemd/netif/links/3
printf 'OPER_STATE=no-carrier\\n' >/run/systemd/netif/links/4
"""
RESOLVE = """
printf '%s' "$1" >/etc/resolv.conf
[ -n "$1" ] || rm /etc/resolv.conf
/usr/lib/bootc-live/name-servers
echo "status=$?"
cat /etc/resolv.conf
"""


def resolved(root: Root, script: str, before: str) -> list[str]:
    return root.stage(script + RESOLVE, "", (before,)).stdout.splitlines()


def test_name_servers_of_links(root: Root) -> None:
    servers = ["nameserver 10.0.2.3", "nameserver 10.0.2.4", "nameserver fd00::3"]
    assert resolved(root, LINKS, "") == ["status=0", *servers]


def test_name_servers_of_others_stay(root: Root) -> None:
    assert resolved(root, LINKS, "nameserver 192.0.2.1\n") == ["status=0", "nameserver 192.0.2.1"]


@pytest.mark.parametrize("script", ["", "mkdir -p /run/systemd/netif/links\n"])
def test_no_links(root: Root, script: str) -> None:
    assert resolved(root, script, "") == ["status=0"]
