#!/bin/sh
# Succeeds as soon as the boot need not wait for the partition of bootc.live.state=: where none is
# asked for, or it is there; and, unless it is required, ten seconds after this was first asked.

. /usr/lib/bootc-live/lib.sh

need_not_wait() {
	device=$(getarg bootc.live.state=) || return 0
	! bootc_live_there "$device" || return 0
	# Python alone reads booleans: what is no clear "no" here is at worst waited for too long.
	if required=$(getarg bootc.live.state.required); then
		case $required in
		0 | [Nn]* | [Oo][Ff][Ff] | [Ff]*) ;;
		*) return 1 ;;
		esac
	fi
	read -r now _ </proc/uptime
	now=${now%%.*}
	asked=/run/bootc-live-state-wait
	[ -e "$asked" ] || echo "$now" >"$asked"
	read -r first <"$asked"
	[ "$((now - first))" -ge 10 ]
}

need_not_wait
