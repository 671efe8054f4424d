#!/bin/sh
# Succeeds as soon as the boot need not wait for a block device: where the first source that may
# be usable is none, or is on a device that is there. A device behind such a source is not waited
# for: a stick that is a mere fallback must not hold a boot up that can do without.

. /usr/lib/bootc-live/lib.sh

need_not_wait() {
	while IFS=' ' read -r need source; do
		case $need in
		network) return 0 ;;
		nothing) [ ! -e "$source" ] || return 0 ;;
		device)
			# What stands behind the last ":/" is the path on the device.
			bootc_live_there "${source%:/*}"
			return
			;;
		esac
	done
}

bootc_live_sources | need_not_wait
