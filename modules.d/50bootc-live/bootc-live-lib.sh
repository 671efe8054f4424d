#!/bin/sh
# What the shell side knows of sources: where they are typed, and what must be there to read them.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

# Prints every source in the order in which they are tried, one a line, each after what it needs:
# "network", "device" or "nothing". Fails where root= is not ours. A kernel before this one may have left all of it.
bootc_live_sources() (
	first=$(getarg root=)
	[ "$first" != "${first#bootc-live:}" ] || return 1
	left=/usr/lib/bootc-live/handover
	[ ! -e $left/whole ] || { echo "nothing $left/image" && return; }
	{
		printf '%s\n' "${first#bootc-live:}"
		getargs bootc.live.fallback=
	} | while IFS= read -r source; do
		need=nothing
		case $source in
		/dev/shm/* | /dev/fd/* | /dev/stdin*) ;;
		LABEL=* | UUID=* | PARTLABEL=* | PARTUUID=* | /dev/*) need=device ;;
		/*) ;;
		*://* | [Nn][Ff][Ss]:* | [Nn][Ff][Ss]4:*) need=network ;;
		esac
		printf '%s %s\n' "$need" "$source"
	done
)

# Whether a source needs $1.
bootc_live_needs() {
	[ -n "$(bootc_live_sources | sed -n "/^$1 /p")" ]
}

# Whether the block device $1 is there; blkid knows labels that udev spells as dracut does not.
bootc_live_there() {
	[ -e "$(label_uuid_to_dev "$1")" ] || case $1 in
	*=*[!A-Za-z0-9#+.:=@_\ /-]*) blkid -l -o device -t "$1" >/dev/null ;;
	*) false ;;
	esac
}
