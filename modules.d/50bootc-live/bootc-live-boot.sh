#!/bin/sh
# Runs the boot; Python parses the command line.
# Errors also go to the kernel log, which prints them on every console.

command -v getcmdline >/dev/null || . /lib/dracut-lib.sh

[ ! -e /usr/lib/bootc-live/name-servers ] || /usr/lib/bootc-live/name-servers

exec /usr/bin/bootc-live boot --cmdline "$(getcmdline)" --sysroot "${NEWROOT:-/sysroot}" \
	--errors-to /dev/kmsg
