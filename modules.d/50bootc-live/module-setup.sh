#!/bin/bash
# The base of bootc-live: hook, generator, unit, Python and the zipapp.

# called by dracut
check() {
	require_binaries python3 mount umount cp modprobe || return 1
	# Only where it is asked for: it is of no use to a system on a disk.
	return 255
}

# called by dracut
depends() {
	echo base
}

# called by dracut
installkernel() {
	hostonly='' instmods erofs overlay loop
}

# called by dracut
install() {
	# Not those of busybox, which dracut may have packed before: cp loses attributes, umount has no -R.
	find "$initdir" \( -name mount -o -name umount -o -name cp -o -name modprobe \) -lname '*busybox' -delete
	inst_multiple mount umount cp modprobe
	# Faster than the standard library, and for zstd the only way before Python 3.14.
	inst_multiple -o igzip zstd

	. "$moddir/bootc-live-pack.sh"
	# As dracut does for a missing hook: an initramfs without the program would only fail at boot.
	bootc_live_pack || {
		dfatal "bootc-live: packing Python failed"
		exit 1
	}

	inst_script "$moddir/bootc-live.sh" /usr/bin/bootc-live
	inst_script "$moddir/bootc-live-boot.sh" /usr/lib/bootc-live/boot
	inst_hook cmdline 95 "$moddir/parse-bootc-live.sh"
	if dracut_module_included systemd; then
		inst_script "$moddir/bootc-live-generator.sh" \
			"$systemdutildir/system-generators/bootc-live-generator"
		inst_simple "$moddir/bootc-live.service" "$systemdsystemunitdir/bootc-live.service"
	else
		inst_hook mount 50 "$moddir/mount-bootc-live.sh"
	fi
}
