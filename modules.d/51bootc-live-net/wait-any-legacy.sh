#!/bin/sh
# Where ip= or BOOTIF= name interfaces, network-legacy waits for every one of them; with
# rd.net.wait-any-if any one is enough, as it always is where none is named.
# A pre-udev hook, right after the one that writes what to wait for.

if /usr/lib/bootc-live/any-interface; then
	for _wait in "${hookdir:?}"/initqueue/finished/wait-*.sh; do
		# shellcheck disable=SC2016 # expanded when the initqueue sources it
		[ ! -e "$_wait" ] || echo 'set -- /tmp/net.*.did-setup; [ -e "$1" ]' >"$_wait"
	done
	unset _wait
fi
