#!/bin/sh
# Claims root=bootc-live:… and asks for what it needs: the network, block devices.
# A cmdline hook, because the network modules read what is asked for right after these, and
# the initqueue, which waits for devices, comes later.

case "${root-}" in
bootc-live:*)
	# shellcheck disable=SC2034 # read by dracut
	rootok=1
	. /usr/lib/bootc-live/lib.sh
	if bootc_live_needs network; then
		echo "rd.neednet=1" >/etc/cmdline.d/50-bootc-live.conf
	fi
	for what in device state; do
		! "/usr/lib/bootc-live/wait-for-$what" || continue
		# After two thirds of rd.retry= the initqueue runs what is below "timeout": no more
		# waiting then, for bootc-live itself says what is missing, or can do without.
		/sbin/initqueue --finished --unique --name "bootc-live-$what" "/usr/lib/bootc-live/wait-for-$what"
		/sbin/initqueue --timeout --onetime --unique --name "bootc-live-$what" \
			rm -f "${hookdir:?}/initqueue/finished/bootc-live-$what.sh"
	done
	unset what
	;;
esac
