#!/bin/sh
# Accepts root=bootc-live:… and requests what it needs: the network, block devices.
# A cmdline hook, because the network modules read rd.neednet directly after these hooks, and the
# initqueue, which waits for devices, runs later.

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
		# After two thirds of rd.retry= the initqueue runs the hooks below "timeout". They end
		# the wait: bootc-live reports what is missing, or does not need it.
		/sbin/initqueue --finished --unique --name "bootc-live-$what" "/usr/lib/bootc-live/wait-for-$what"
		/sbin/initqueue --timeout --onetime --unique --name "bootc-live-$what" \
			rm -f "${hookdir:?}/initqueue/finished/bootc-live-$what.sh"
	done
	unset what
	;;
esac
