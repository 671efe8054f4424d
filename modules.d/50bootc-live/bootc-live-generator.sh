#!/bin/sh
# Takes /sysroot from systemd-fstab-generator where root= is ours: it would wait for a device
# of that name. The early directory ($2) goes before the one it writes to.

. /usr/lib/bootc-live/lib.sh

early_dir=$2
case "$(getarg root=)" in
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

# No timer of the program's own fires while it hangs in a library or a system call.
mkdir -p "$early_dir/bootc-live.service.d"
printf '%s\n' "[Service]" "TimeoutStartSec=$(/usr/lib/bootc-live/time-limit)" >"$early_dir/bootc-live.service.d/limit.conf"

# Archives in the initramfs need neither devices nor network: they need not wait for them.
after="dracut-initqueue.service dracut-pre-mount.service"
if bootc_live_needs network; then
	set -- Wants=network-online.target "After=network-online.target $after"
elif bootc_live_needs device || [ -n "$(getarg bootc.live.state=)" ]; then
	set -- "After=$after"
else
	exit 0
fi
printf '%s\n' "[Unit]" "$@" >"$early_dir/bootc-live.service.d/sources.conf"
