#!/bin/sh
# Succeeds where rd.net.wait-any-if says that one interface is enough. Read as bootc-live itself
# reads booleans, not by getargbool, which takes "false" for true.

command -v getarg >/dev/null || . /lib/dracut-lib.sh

any=$(getarg rd.net.wait-any-if=) || any=0
case $any in
'' | 1 | [Yy] | [Yy][Ee][Ss] | [Oo][Nn] | [Tt][Rr][Uu][Ee]) true ;;
*) false ;;
esac
