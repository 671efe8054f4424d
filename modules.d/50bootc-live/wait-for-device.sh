#!/bin/sh
# Exits with 0 as soon as the boot need not wait for a block device: the first usable source is not on
# a device, or its device exists. Later sources do not count: a boot must not wait for a USB stick
# that is only a fallback.

. /usr/lib/bootc-live/lib.sh

need_not_wait() {
	while IFS=' ' read -r need source; do
		case $need in
		network) return 0 ;;
		nothing) [ ! -e "$source" ] || return 0 ;;
		device)
			# The path on the device follows the last ":/"; the number of a deployment the last ":".
			case $source in
			deployment:*) source=${source#deployment:} source=${source%:*} ;;
			*) source=${source%:/*} ;;
			esac
			bootc_live_exists "$source"
			return
			;;
		esac
	done
}

bootc_live_sources | need_not_wait
