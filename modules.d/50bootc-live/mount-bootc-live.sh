#!/bin/sh
# Makes the root where dracut's own init runs the initramfs.
# A mount hook: the network is up and devices have settled by then.

case "${root-}" in
bootc-live:*)
	# The loop around mount hooks would try twenty times; once is the truth.
	timeout -k 60 "$(/usr/lib/bootc-live/time-limit)" /usr/lib/bootc-live/boot ||
		die "bootc-live could not make the root; its error is above, or it took too long"
	;;
esac
