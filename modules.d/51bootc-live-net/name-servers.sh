#!/bin/sh
# Takes the name servers that systemd-networkd knows, from DHCP or nameserver=, where nothing else
# has: it leaves /etc/resolv.conf to systemd-resolved, which an initramfs seldom has.
# Run right before the program needs them: dracut runs no initqueue/online hook where networkd
# was ready before the initqueue began, and none at all in version 059.

# Of interfaces, not of leases, which systemd 261 does not keep in files any more.
name_servers() {
	for link in "${BOOTC_LIVE_LINKS:-/run/systemd/netif/links}"/*; do
		[ -f "$link" ] || continue
		while IFS='=' read -r key value; do
			[ "$key" = DNS ] || continue
			for server in $value; do
				# What follows "#" is the name in its certificate.
				echo "nameserver ${server%%#*}"
			done
		done <"$link"
	done
}

[ -s /etc/resolv.conf ] || name_servers >/etc/resolv.conf
