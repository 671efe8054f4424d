#!/bin/sh
# Writes the name servers of systemd-networkd, from DHCP or nameserver=, to an empty /etc/resolv.conf.
# networkd leaves that to systemd-resolved, which most initramfs do not have.
# Called directly before the program: dracut runs no initqueue/online hook if networkd was ready
# before the initqueue began, and never in version 059.

# Files of interfaces, because systemd 261 has no files of leases.
name_servers() {
	for link in "${BOOTC_LIVE_LINKS:-/run/systemd/netif/links}"/*; do
		[ -f "$link" ] || continue
		while IFS='=' read -r key value; do
			[ "$key" = DNS ] || continue
			for server in $value; do
				# The name in its certificate follows "#".
				echo "nameserver ${server%%#*}"
			done
		done <"$link"
	done
}

[ -s /etc/resolv.conf ] || name_servers >/etc/resolv.conf
