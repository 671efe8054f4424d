#!/bin/sh
# network-legacy waits for all interfaces of ip= and BOOTIF=; with rd.net.wait-any-if one is enough,
# as without these arguments.
# A pre-udev hook that runs directly after the one that makes the wait hooks.

if /usr/lib/bootc-live/is-on rd.net.wait-any-if; then
	for _wait in "${hookdir:?}"/initqueue/finished/wait-*.sh; do
		# shellcheck disable=SC2016 # expanded when the initqueue sources it
		[ ! -e "$_wait" ] || echo 'set -- /tmp/net.*.did-setup; [ -e "$1" ]' >"$_wait"
	done
	unset _wait
fi
