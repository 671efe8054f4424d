#!/bin/bash
# The base of bootc-live: hooks, generator, unit, Python and the zipapp.

# called by dracut
check() {
	require_binaries mount umount cp modprobe blkid timeout || return 1
	# Not included by default: a system on a disk does not need it.
	return 255
}

# called by dracut
depends() {
	echo base udev-rules
	# A separate module in newer versions of dracut.
	[[ -d $(dracut_module_path initqueue) ]] && echo initqueue
	return 0
}

# called by dracut
installkernel() {
	hostonly='' instmods erofs overlay loop dm-mod dm-verity
	# Archives on block devices of other machines than this one.
	hostonly='' instmods ext4 isofs vfat xfs nls_ascii nls_cp437 nls_iso8859-1 nls_utf8 \
		ahci nvme sd_mod sr_mod uas usb-storage virtio_blk virtio_scsi
	# Drivers of TPMs, for measuring.
	hostonly='' instmods '=drivers/char/tpm'
	# Sources of credentials for systemd.
	hostonly='' instmods dmi-sysfs qemu_fw_cfg
}

# called by dracut
install() {
	# Remove programs of busybox that dracut may have packed: its cp loses attributes, its umount has no -R.
	find "$initdir" -lname '*busybox' \
		\( -name mount -o -name umount -o -name cp -o -name modprobe -o -name blkid -o -name timeout \) -delete
	inst_multiple mount umount cp modprobe blkid timeout

	# Loaded with dlopen(3): for layers (libisal is faster than zlib), the erofs layout, and SELinux labels.
	inst_libdir_file 'libisal.so.2*' 'liblz4.so.1*' 'libzstd.so.1*' 'libselinux.so.1*'
	find "$initdir" -name 'libzstd.so.1' | grep -q . ||
		dwarn "bootc-live: images with zstd layers cannot boot without libzstd.so.1: install it"

	. "$moddir/bootc-live-pack.sh"
	# shellcheck disable=SC2046 # paths without blanks
	bootc_live_pack_needed $(find "$initdir/" -name 'libisal.so.2' -o -name 'liblz4.so.1' -o -name 'libzstd.so.1' \
		-o -name 'libselinux.so.1')

	# What images must be signed with. They are copied, because a link could lead to another key. Without one of them
	# the initramfs would boot anything.
	local file own="${dracutsysrootdir-}/etc/bootc-live"
	for file in "$own/policy.json" "$own/allow-insecure" "$own"/keys/*; do
		[[ -e $file || -L $file ]] || continue
		mkdir -p "$initdir/etc/bootc-live/keys"
		cp -L "$file" "$initdir/etc/bootc-live${file#"$own"}" || {
			dfatal "bootc-live: $file cannot be packed"
			exit 1
		}
	done
	rmdir "$initdir/etc/bootc-live/keys" 2>/dev/null || :

	# As dracut does for a missing hook: without the program the boot would fail.
	bootc_live_pack || {
		dfatal "bootc-live: packing Python failed"
		exit 1
	}
	# A clock that is earlier is wrong.
	echo "${SOURCE_DATE_EPOCH:-$(date +%s)}" >"$initdir/usr/lib/bootc-live/built"

	inst_script "$moddir/bootc-live.sh" /usr/bin/bootc-live
	inst_script "$moddir/bootc-live-boot.sh" /usr/lib/bootc-live/boot
	inst_simple "$moddir/bootc-live-lib.sh" /usr/lib/bootc-live/lib.sh
	inst_script "$moddir/is-on.sh" /usr/lib/bootc-live/is-on
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
