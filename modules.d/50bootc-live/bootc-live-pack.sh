#!/bin/sh
# Packs the interpreter, what the zipapp loads of the standard library, and the zipapp.
# Sourced by module-setup.sh of this and of other bootc-live modules, each with its feature.

. "${moddir:?}/../50bootc-live/bootc-live-python.sh"

bootc_live_pack() {
	_zipapp=${BOOTC_LIVE_PYZ:-${dracutsysrootdir-}/usr/lib/bootc-live/bootc-live.pyz}
	if ! [ -f "$_zipapp" ]; then
		dfatal "bootc-live: $_zipapp is missing: install bootc-live, or set BOOTC_LIVE_PYZ"
		return 1
	fi
	_python=$(bootc_live_python) || return 1
	# It links /usr/lib/bootc-live/python to the interpreter, whatever that is called.
	_binaries=$("$_python" -I -S -B "$_zipapp" freeze "$initdir" "$@") || return 1
	# Extension modules are not marked executable, so dracut does not look at what they link to.
	# shellcheck disable=SC2086 # one path in a word, none of them has blanks
	_libraries=$(ldd $_binaries | sed -n 's,.*=> \(/[^ ]*\) .*,\1,p' | sort -u)
	# shellcheck disable=SC2086
	inst_multiple $_binaries $_libraries || return 1
	unset _zipapp _python _binaries _libraries
}
