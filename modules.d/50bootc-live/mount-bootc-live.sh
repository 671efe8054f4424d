#!/bin/sh
# Makes the root if dracut's own init runs the initramfs.
# A mount hook, because the network and the devices are ready then.

case "${root-}" in
bootc-live:*)
	# dracut would run a failed mount hook twenty times.
	timeout -k 60 "$(/usr/lib/bootc-live/time-limit)" /usr/lib/bootc-live/boot ||
		die "bootc-live could not make the root; its error is above, or it took too long"
	;;
esac
