#!/bin/sh
# Runs the boot; Python parses the command line.
# Errors also go to the kernel log, which prints them on every console.

command -v getcmdline >/dev/null || . /lib/dracut-lib.sh

# With systemd, dracut's shell is a login, which nobody can pass if root's password is locked.
nobody_gets_a_shell() {
	[ -e /run/systemd/system ] && grep -q '^root:[!*]' /etc/shadow 2>/dev/null &&
		getargbool 1 rd.shell && ! getargbool 0 SYSTEMD_SULOGIN_FORCE
}

boot() {
	/usr/bin/bootc-live boot --cmdline "$(getcmdline)" --sysroot "${NEWROOT:-/sysroot}" \
		--errors-to /dev/kmsg && return
	status=$?
	! nobody_gets_a_shell ||
		echo "bootc-live: for a shell after a failure, add SYSTEMD_SULOGIN_FORCE=1 to the kernel command line" >&2
	return $status
}

[ ! -e /usr/lib/bootc-live/name-servers ] || /usr/lib/bootc-live/name-servers

boot
