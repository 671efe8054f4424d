#!/bin/sh
# Replaces the sysroot.mount of systemd-fstab-generator for root=bootc-live:…, which would wait for a
# device of that name. Units in the early directory ($2) have priority.

. /usr/lib/bootc-live/lib.sh

early_dir=$2
case "$(getarg root=)" in
bootc-live:*) ;;
*) exit 0 ;;
esac

# Already mounted by bootc-live.service when systemd starts it.
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

# The program cannot stop itself while it hangs in a library or a system call.
mkdir -p "$early_dir/bootc-live.service.d"
printf '%s\n' "[Service]" "TimeoutStartSec=$(/usr/lib/bootc-live/time-limit)" >"$early_dir/bootc-live.service.d/limit.conf"

# Archives in the initramfs do not have to wait for devices or the network.
after="dracut-initqueue.service dracut-pre-mount.service"
if bootc_live_needs network; then
	set -- Wants=network-online.target "After=network-online.target $after"
elif bootc_live_needs device || [ -n "$(getarg bootc.live.state=)" ]; then
	set -- "After=$after"
else
	exit 0
fi
printf '%s\n' "[Unit]" "$@" >"$early_dir/bootc-live.service.d/sources.conf"
