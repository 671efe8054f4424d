#!/bin/bash
# The base of bootc-live: hook, generator, unit, Python and the zipapp.

# called by dracut
check() {
	require_binaries mount umount cp modprobe blkid timeout || return 1
	# Only where it is asked for: it is of no use to a system on a disk.
	return 255
}

# called by dracut
depends() {
	echo base udev-rules
	# A module of its own in newer versions, which have to be asked for it.
	[[ -d $(dracut_module_path initqueue) ]] && echo initqueue
	return 0
}

# called by dracut
installkernel() {
	hostonly='' instmods erofs overlay loop
	# Archives on block devices: sticks, discs and disks of machines this is not built on.
	hostonly='' instmods ext4 isofs vfat xfs nls_ascii nls_cp437 nls_iso8859-1 nls_utf8 \
		ahci nvme sd_mod sr_mod uas usb-storage virtio_blk virtio_scsi
	# systemd takes credentials from there.
	hostonly='' instmods dmi-sysfs qemu_fw_cfg
}

# called by dracut
install() {
	# Not those of busybox, which dracut may have packed before: cp loses attributes, umount has no -R.
	find "$initdir" -lname '*busybox' \
		\( -name mount -o -name umount -o -name cp -o -name modprobe -o -name blkid -o -name timeout \) -delete
	inst_multiple mount umount cp modprobe blkid timeout
	# Faster than the standard library, and for zstd the only way before Python 3.14.
	inst_multiple -o igzip zstd

	# The erofs layout compresses with these, and SELinux labels are for the last one to know. None is linked to.
	inst_libdir_file 'liblz4.so.1*' 'libzstd.so.1*' 'libselinux.so.1*'

	. "$moddir/bootc-live-pack.sh"
	# As dracut does for a missing hook: an initramfs without the program would only fail at boot.
	bootc_live_pack || {
		dfatal "bootc-live: packing Python failed"
		exit 1
	}
	find_binary zstd >/dev/null || bootc_live_has_zstd ||
		dwarn "bootc-live: without the program zstd, images with zstd layers will not boot" \
			"(Python 3.14 would do): install the package zstd"
	# No clock is right that is before this.
	echo "${SOURCE_DATE_EPOCH:-$(date +%s)}" >"$initdir/usr/lib/bootc-live/built"

	inst_script "$moddir/bootc-live.sh" /usr/bin/bootc-live
	inst_script "$moddir/bootc-live-boot.sh" /usr/lib/bootc-live/boot
	inst_simple "$moddir/bootc-live-lib.sh" /usr/lib/bootc-live/lib.sh
	inst_script "$moddir/time-limit.sh" /usr/lib/bootc-live/time-limit
	inst_script "$moddir/wait-for-device.sh" /usr/lib/bootc-live/wait-for-device
	inst_script "$moddir/wait-for-state.sh" /usr/lib/bootc-live/wait-for-state
	inst_hook cmdline 95 "$moddir/parse-bootc-live.sh"
	dracut_need_initqueue
	if dracut_module_included systemd; then
		inst_script "$moddir/bootc-live-generator.sh" \
			"$systemdutildir/system-generators/bootc-live-generator"
		inst_simple "$moddir/bootc-live.service" "$systemdsystemunitdir/bootc-live.service"
	else
		inst_hook mount 50 "$moddir/mount-bootc-live.sh"
	fi
}
