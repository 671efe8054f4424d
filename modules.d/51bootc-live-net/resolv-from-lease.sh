#!/bin/sh
# Takes the name servers of the DHCP leases of systemd-networkd where nothing else has:
# it leaves /etc/resolv.conf to systemd-resolved, which an initramfs seldom has.
# An initqueue/online hook: it runs once an interface is up.

if ! [ -s /etc/resolv.conf ]; then
	for _lease in "${BOOTC_LIVE_LEASES:-/run/systemd/netif/leases}"/*; do
		[ -f "$_lease" ] || continue
		while IFS='=' read -r _key _value; do
			[ "$_key" = DNS ] || continue
			for _server in $_value; do
				echo "nameserver $_server"
			done
		done <"$_lease"
	done >"${BOOTC_LIVE_RESOLV:-/etc/resolv.conf}"
fi
unset _lease _key _value _server
