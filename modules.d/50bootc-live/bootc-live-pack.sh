#!/bin/sh
# Packs the interpreter, the used modules of the standard library, and the zipapp.
# Sourced by module-setup.sh of all bootc-live modules; the arguments are features.

. "${moddir:?}/../50bootc-live/bootc-live-python.sh"

bootc_live_pack() {
	_zipapp=${BOOTC_LIVE_PYZ:-${dracutsysrootdir-}/usr/lib/bootc-live/bootc-live.pyz}
	if ! [ -f "$_zipapp" ]; then
		dfatal "bootc-live: $_zipapp is missing: install bootc-live, or set BOOTC_LIVE_PYZ"
		return 1
	fi
	_python=$(bootc_live_python) || return 1
	# It makes the link /usr/lib/bootc-live/python to the interpreter. Code keeps its lines, without columns.
	_binaries=$("$_python" -I -S -B -X no_debug_ranges "$_zipapp" freeze "$initdir" "$@") || return 1
	# shellcheck disable=SC2086 # paths without blanks
	inst_multiple $_binaries && bootc_live_pack_needed $_binaries || return 1
	unset _zipapp _python _binaries
}

# bootc_live_pack_needed FILE...: packs the libraries that files need. dracut does so for executable files, which
# extension modules and libraries are not.
bootc_live_pack_needed() {
	[ $# -gt 0 ] || return 0
	_libraries=$(ldd "$@" | sed -n 's,.*=> \(/[^ ]*\) .*,\1,p' | sort -u)
	# shellcheck disable=SC2086 # paths without blanks
	inst_multiple $_libraries || return 1
	unset _libraries
}
