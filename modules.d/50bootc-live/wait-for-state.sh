#!/bin/sh
# Exits with 0 as soon as the boot need not wait for the partition of bootc.live.state=: without the
# argument, when the partition exists, and, unless it is required, ten seconds after the first call.

. /usr/lib/bootc-live/lib.sh

need_not_wait() {
	device=$(getarg bootc.live.state=) || return 0
	! bootc_live_exists "$device" || return 0
	# An invalid value counts as required; Python rejects it later.
	if /usr/lib/bootc-live/is-on bootc.live.state.required || [ $? = 2 ]; then
		return 1
	fi
	read -r now _ </proc/uptime
	now=${now%%.*}
	first_call=/run/bootc-live-state-wait
	[ -e "$first_call" ] || echo "$now" >"$first_call"
	read -r first <"$first_call"
	[ "$((now - first))" -ge 10 ]
}

need_not_wait
