#!/bin/sh
# Claims root=bootc-live:… and asks for the network where the source needs it.
# A cmdline hook, because the network modules read what is asked for right after these.

case "${root-}" in
bootc-live:/*)
	rootok=1
	;;
bootc-live:*)
	# shellcheck disable=SC2034 # read by dracut
	rootok=1
	echo "rd.neednet=1" >/etc/cmdline.d/50-bootc-live.conf
	;;
esac
