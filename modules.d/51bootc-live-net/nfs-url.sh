#!/bin/sh
# NFS for fetch-url: converts URLs with a port, an IPv6 address or a file at the top of an export for
# url-lib, and adds the option soft if there are no options, because a hard mount never times out.

# nfs_url URL: prints nfs[4]:SERVER:/PATH:OPTIONS; a URL with options does not change.
nfs_url() (
	options=ro,soft,timeo=100,retrans=2,retry=1
	case $1 in
	nfs://*)
		host=${1#nfs://} path=/${1#nfs://*/}
		host=${host%%/*} && host=${host%:}
		case ${host##*]} in
		*:*) options=$options,port=${host##*:} host=${host%:*} ;;
		esac
		# url-lib mounts the directory of the file, which must not be empty.
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

# fetch_nfs URL: prints the path of the file; unmounts if it does not exist.
fetch_nfs() {
	fetch_url "$(nfs_url "$1")" && return
	set -- $?
	if umount /run/nfs_mnt* 2>/dev/null; then
		echo "the directory exists, but it has no such file" >&2
		rm -f "${hookdir:?}"/pre-pivot/99url-lib-umount-nfs-*
	fi
	return "$1"
}
