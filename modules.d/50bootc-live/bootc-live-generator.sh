#!/bin/sh
# Takes /sysroot from systemd-fstab-generator where root= is ours: it would wait for a device
# of that name. The early directory ($2) goes before the one it writes to.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

early_dir=$2
root=$(getarg root=)
case "$root" in
bootc-live:*) ;;
*) exit 0 ;;
esac

# Found mounted by the time it is started, because bootc-live.service has mounted it.
cat >"$early_dir/sysroot.mount" <<-EOF
	[Unit]
	Description=Root in RAM made by bootc-live
	Before=initrd-root-fs.target
	Requires=bootc-live.service
	After=bootc-live.service
	[Mount]
	What=bootc-live
	Where=/sysroot
EOF
mkdir -p "$early_dir/initrd-root-fs.target.requires"
ln -sf ../sysroot.mount "$early_dir/initrd-root-fs.target.requires/sysroot.mount"

# An archive in the initramfs needs neither devices nor network: it need not wait for them.
case "$root" in
bootc-live:/*) exit 0 ;;
esac
mkdir -p "$early_dir/bootc-live.service.d"
cat >"$early_dir/bootc-live.service.d/network.conf" <<-EOF
	[Unit]
	Wants=network-online.target
	After=network-online.target dracut-initqueue.service dracut-pre-mount.service
EOF
