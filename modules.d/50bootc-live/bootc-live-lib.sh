#!/bin/sh
# Sources of the image: their kernel arguments, and whether they need the network or a device.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

# Prints the sources in their order, one per line, each after what it needs: "network", "device" or
# "nothing". Fails if root= is not of bootc-live. An earlier kernel may have handed over the image.
# Python has the same patterns (config/source_spec.py), but its start would delay every boot.
bootc_live_sources() (
	first=$(getarg root=)
	[ "$first" != "${first#bootc-live:}" ] || return 1
	handover=/usr/lib/bootc-live/handover
	[ ! -e $handover/whole ] || { echo "nothing $handover/image" && return; }
	{
		printf '%s\n' "${first#bootc-live:}"
		getargs bootc.live.fallback=
	} | while IFS= read -r source; do
		need=nothing
		case $source in
		/dev/shm/* | /dev/fd/* | /dev/stdin*) ;;
		deployment:* | LABEL=* | UUID=* | PARTLABEL=* | PARTUUID=* | /dev/*) need=device ;;
		/*) ;;
		*://* | [Nn][Ff][Ss]:* | [Nn][Ff][Ss]4:*) need=network ;;
		esac
		printf '%s %s\n' "$need" "$source"
	done
)

# Succeeds if a source needs $1.
bootc_live_needs() {
	[ -n "$(bootc_live_sources | sed -n "/^$1 /p")" ]
}

# Succeeds if the block device $1 exists. udev and dracut encode some labels differently; blkid finds these.
bootc_live_exists() {
	[ -e "$(label_uuid_to_dev "$1")" ] || case $1 in
	*=*[!A-Za-z0-9#+.:=@_\ /-]*) blkid -l -o device -t "$1" >/dev/null ;;
	*) false ;;
	esac
}
