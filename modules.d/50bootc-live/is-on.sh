#!/bin/sh
# Usage: is-on NAME
#
# Exits with 0 if the boolean kernel argument NAME is on, 1 if it is off or missing, 2 if its value
# is invalid. dracut's getargbool cannot be used: "false" is true for it.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

is_on() {
	value=$(getarg "$1=") || return 1
	case $value in
	'' | 1 | [Yy] | [Yy][Ee][Ss] | [Oo][Nn] | [Tt][Rr][Uu][Ee]) return 0 ;;
	0 | [Nn] | [Nn][Oo] | [Oo][Ff][Ff] | [Ff][Aa][Ll][Ss][Ee]) return 1 ;;
	*) return 2 ;;
	esac
}

is_on "$1"
