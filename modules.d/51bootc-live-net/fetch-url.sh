#!/bin/sh
# Usage: fetch-url URL DIRECTORY
#
# Fetches URL by the handlers of dracut's url-lib and prints where it lies: in DIRECTORY, or, for
# nfs, in a mount that stays until dracut switches root. All else goes to standard error.
# The status is the handler's; 254 where this initramfs has none. Of the environment:
# BOOTC_LIVE_STALL and BOOTC_LIVE_TOTAL, whole seconds without a byte and altogether.

exec </dev/null
# Its traces and its warnings would show passwords in URLs; the handlers' programs say enough.
export RD_DEBUG=no
. /lib/dracut-lib.sh >&2
[ ! -e /lib/url-lib.sh ] || . /lib/url-lib.sh >&2
. /usr/lib/bootc-live/nfs-url
warn() { :; }
# It waits for peers for ever, and what it leaves then looks like a file to url-lib.
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
		echo "nothing in this initramfs handles ${1%%:*}: URLs; build it with $needs" >&2
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
