#!/bin/sh
# Claims root=bootc-live:… and asks for what its sources need: the network, a block device.
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
	if ! /usr/lib/bootc-live/wait-for-device; then
		# After two thirds of rd.retry= the initqueue runs what is below "timeout": no more
		# waiting then, for bootc-live itself says what is missing, or has another source.
		/sbin/initqueue --finished --unique --name bootc-live-device /usr/lib/bootc-live/wait-for-device
		/sbin/initqueue --timeout --onetime --unique --name bootc-live-device \
			rm -f "${hookdir:?}/initqueue/finished/bootc-live-device.sh"
	fi
	;;
esac
