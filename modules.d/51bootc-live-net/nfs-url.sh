#!/bin/sh
# NFS for fetch-url: says the URL as url-lib understands it with a port, an IPv6 address or a file
# at the top of an export, and soft where no options were typed: a hard mount waits for ever.

# nfs_typed URL: nfs[4]:SERVER:/PATH:OPTIONS; a form with options of its own stays.
nfs_typed() (
	options=ro,soft,timeo=100,retrans=2,retry=1
	case $1 in
	nfs://*)
		host=${1#nfs://} path=/${1#nfs://*/}
		host=${host%%/*} && host=${host%:}
		case ${host##*]} in
		*:*) options=$options,port=${host##*:} host=${host%:*} ;;
		esac
		# url-lib mounts the directory, which is not to be empty.
		[ "${path%/*}" ] || path=/$path
		printf 'nfs:%s:%s:%s' "$host" "$path" "$options"
		;;
	*)
		rest=${1#*:} && rest=${rest##*]}
		case ${rest%%:/*}${rest#*:/} in
		*:*) printf '%s' "$1" ;;
		*) printf '%s:%s' "$1" "$options" ;;
		esac
		;;
	esac
)

# fetch_nfs URL: prints where the file is; takes the mount back if it is not there.
fetch_nfs() {
	fetch_url "$(nfs_typed "$1")" && return
	set -- $?
	if umount /run/nfs_mnt* 2>/dev/null; then
		echo "the directory is there, and in it no such file" >&2
		rm -f "${hookdir:?}"/pre-pivot/99url-lib-umount-nfs-*
	fi
	return "$1"
}
