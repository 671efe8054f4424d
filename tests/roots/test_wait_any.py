"""rd.net.wait-any-if: what it makes of the units and hooks that wait for the network."""

from __future__ import annotations

import re

import pytest

from tests.roots.root import Root

GENERATE = """
mkdir -p /run/normal /run/early /run/late
env -i PATH=/usr/sbin:/usr/bin SYSTEMD_IN_INITRD=1 dash "$hooks/bootc-live-net-generator.sh" \\
    /run/normal /run/early /run/late
echo "status=$?"
cd /run
for file in early/*/* normal/* late/*; do [ ! -e "$file" ] || { echo "$file"; cat "$file"; }; done
"""
NM = ["[Service]", "ExecStart=", "ExecStart=-/usr/bin/nm-online -q -t 120"]
DROP_INS = [
    "early/NetworkManager-wait-online-initrd.service.d/wait-any-if.conf",
    *NM,
    "early/nm-wait-online-initrd.service.d/wait-any-if.conf",
    *NM,
    "early/systemd-networkd-wait-online.service.d/wait-any-if.conf",
    "[Service]",
    "ExecStart=",
    "ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any",
]
ON = (
    "rd.net.wait-any-if",
    "rd.net.wait-any-if=On",
    "rd.net.wait-any-if=0 rd.net.wait-any-if",
)
OFF = (
    "",
    "rd.net.wait-any-ifx",
    "rd.net.wait-any-if=False",
    "rd.net.wait-any-if rd.net.wait-any-if=no",
)
GENERATED = tuple((cmdline,) for cmdline in (*ON, *OFF))


@pytest.mark.parametrize("cmdline", ON)
def test_any_interface_is_enough(root: Root, cmdline: str) -> None:
    assert root.stage(GENERATE, cmdline, among=GENERATED).stdout.splitlines() == ["status=0", *DROP_INS]


@pytest.mark.parametrize("cmdline", OFF)
def test_all_interfaces_unless_asked(root: Root, cmdline: str) -> None:
    assert root.stage(GENERATE, cmdline, among=GENERATED).stdout.splitlines() == ["status=0"]


VERIFY = """
env -i PATH=/usr/sbin:/usr/bin dash "$hooks/bootc-live-net-generator.sh" /run /etc/systemd/system /run
systemd-analyze verify --man=no --recursive-errors=no systemd-networkd-wait-online.service 2>&1
# shellcheck disable=SC2046
$(sed -n 's/^ExecStart=//p' /etc/systemd/system/systemd-networkd-wait-online.service.d/*) --help
"""


def test_systemd_understands_the_drop_in(root: Root) -> None:
    said = root.stage(VERIFY, "rd.net.wait-any-if").stdout
    assert re.match(r"(> )?systemd-networkd-wait-online \[OPTION", said)


# What network-legacy writes in its pre-udev hook, where it is part of dracut.
LEGACY = """
. "$lib"
modprobe() { :; }
net=$(echo "$dracut"/[0-9][0-9]network-legacy)
[ -d "$net" ] || exit 0
cp "$dracut"/[0-9][0-9]net*/net-lib.sh /lib/
echo "eth0 eth1" >/tmp/net.ifaces
. "$net/net-genrules.sh"
set >/run/before
. "$hooks/wait-any-legacy.sh"
set >/run/after
cd "$hookdir/initqueue/finished"
for file in *; do echo "$file: $(cat "$file")"; done
check_finished && echo finished early
: >/tmp/net.eth1.did-setup
check_finished && echo finished
"""
EACH = [f"wait-eth{number}.sh: [ -f /tmp/net.eth{number}.did-setup ]" for number in (0, 1)]
ANY = [f'wait-eth{number}.sh: set -- /tmp/net.*.did-setup; [ -e "$1" ]' for number in (0, 1)]


@pytest.mark.parametrize(("word", "hooks"), [("rd.net.wait-any-if", [*ANY, "finished"]), ("", EACH)])
def test_network_legacy(root: Root, word: str, hooks: list[str]) -> None:
    """One of the interfaces that ip= names is up, the other one never is. Version 112 has no network-legacy."""
    said = root.stage(LEGACY, f"rd.neednet=1 {word}", ok=False).stdout.splitlines()
    assert said == ([] if root.dracut == "112" else hooks)
