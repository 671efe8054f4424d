#!/bin/sh
# Finds the interpreter to pack: on EL9 python3 is 3.9, and newer versions have other names.

# Exits with a reason if bootc-live cannot run with this Python.
_bootc_live_try='import sys
if sys.version_info < (3, 11): sys.exit("is %d.%d" % sys.version_info[:2])
try: import bz2, ctypes, hashlib, json, lzma, zipfile, zlib
except ImportError as error: sys.exit("lacks %s" % error.name)'

# bootc_live_python: prints the path of the Python to pack: BOOTC_LIVE_PYTHON, or the newest one.
bootc_live_python() (
	if [ -n "${BOOTC_LIVE_PYTHON-}" ]; then
		set -- "$BOOTC_LIVE_PYTHON"
	else
		# shellcheck disable=SC2046 # names without blanks
		set -- $(seq -f python3.%.0f 39 -1 11) python3
	fi
	refused=
	for name; do
		path=$(command -v "$name") || continue
		if why=$("$path" -I -S -B -c "$_bootc_live_try" 2>&1); then
			echo "$path"
			return
		fi
		refused="$refused${refused:+, }$path $why"
	done
	if [ -n "${BOOTC_LIVE_PYTHON-}" ]; then
		dfatal "bootc-live: BOOTC_LIVE_PYTHON=$BOOTC_LIVE_PYTHON is not a Python 3.11 or later" \
			"(${refused:-program not found}): correct or unset it"
	else
		dfatal "bootc-live: no Python 3.11 or later was found (${refused:-no Python}):" \
			"install the package python3, on EL9 python3.12, or set BOOTC_LIVE_PYTHON to the path of one"
	fi
	return 1
)
