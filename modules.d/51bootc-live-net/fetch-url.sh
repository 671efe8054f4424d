#!/bin/sh
# Usage: fetch-url URL DIRECTORY
#
# Fetches URL with a handler of dracut's url-lib and prints the path of the file: in DIRECTORY or, for
# nfs, in a mount that exists until dracut switches root. Everything else goes to standard error.
# Exits with the status of the handler, or 254 if there is none. Time limits in whole seconds are in
# the environment: BOOTC_LIVE_STALL without data, BOOTC_LIVE_TOTAL in total.

exec </dev/null
# Traces and warnings of url-lib would show passwords in URLs. The programs print their own errors.
export RD_DEBUG=no
. /lib/dracut-lib.sh >&2
[ ! -e /lib/url-lib.sh ] || . /lib/url-lib.sh >&2
. /usr/lib/bootc-live/nfs-url
warn() { :; }
# It waits for peers without a limit, and url-lib would use its incomplete file.
ctorrent() {
	timeout "${BOOTC_LIVE_TOTAL:-3600}" ctorrent "$@" >/dev/null || rm -f "$into/archive"
}

fetch() {
	case ${1%%:*} in
	nfs*) needs="the dracut modules url-lib and nfs" ;;
	torrent) needs="the dracut module url-lib and the program ctorrent" ;;
	*) needs="the dracut module url-lib" ;;
	esac
	if ! command -v get_url_handler >/dev/null || ! get_url_handler "$1" >/dev/null; then
		echo "this initramfs has no handler for ${1%%:*}: URLs; build it with $needs" >&2
		return 254
	fi
	curl_args="${curl_args-} --silent --tftp-blksize 1428 --connect-timeout ${BOOTC_LIVE_STALL:-30}
		--speed-limit 1 --speed-time ${BOOTC_LIVE_STALL:-30} --max-time ${BOOTC_LIVE_TOTAL:-3600}"
	into=$2
	case $1 in
	nfs*) fetch_nfs "$1" ;;
	*) fetch_url "$1" "$into/archive" >&2 && echo "$into/archive" ;;
	esac
}

fetch "$@"
