#!/bin/sh
# tree-list.sh DIR: one sorted line per file below DIR, the same lines as tree_list.py (see there for the fields).
# Made for a guest without Python; needs GNU findutils and coreutils, awk, sed and getfattr. Five processes read the
# whole tree, none is started per file: under emulation that is the difference between seconds and minutes.
set -eu
export LC_ALL=C

[ $# -eq 1 ] || {
	echo "usage: tree-list.sh DIR" >&2
	exit 2
}
cd "$1"

# A NUL-separated list of paths, in byte order.
paths() {
	find . -xdev "$@" -print0 | sort -z
}

# NUL-separated records become lines: the escape sign and line breaks in names are quoted first.
lines() {
	sed -z -e 's/\\/\\134/g' -e 's/\n/\\012/g' | tr '\0' '\n' | sed "s/^/$1 /"
}

{
	paths -type f | xargs -0 -r sha256sum -z -- | lines H
	find . -xdev -type l -printf '%p\0%l\0' | lines L
	paths | xargs -0 -r getfattr -h -d -m - -e hex -- | sed 's/^/X /'
	paths | xargs -0 -r stat --printf '%f %a %u %g %h %Y %s %t %T %d:%i %n\0' -- | lines S
} | awk '
BEGIN {
	for (i = 1; i < 256; i++) {
		byte = sprintf("%c", i)
		shown[byte] = (i > 32 && i < 127) ? byte : sprintf("\\%03o", i)
	}
	digits = "0123456789abcdef"
	split("1 p 2 c 4 d 6 b 8 f a l c s", pair, " ")
	for (i = 1; i in pair; i += 2)
		kinds[pair[i]] = pair[i + 1]
}
# The backslash stands for itself here: it opens a sequence that has been quoted before.
function quote(text, i, out) {
	if (text !~ /[^!-~]/)
		return text
	for (i = 1; i <= length(text); i++)
		out = out shown[substr(text, i, 1)]
	return out
}
function number(hex, i, out) {
	for (i = 1; i <= length(hex); i++)
		out = out * 16 + index(digits, substr(hex, i, 1)) - 1
	return out + 0
}
function relative(path) {
	return path == "." ? path : substr(path, 3)
}
function value(list, key) {
	return (key in list) ? list[key] : "-"
}
$1 == "H" {
	hash[relative(substr($0, 69))] = substr($0, 3, 64)
}
$1 == "L" {
	if (++links % 2)
		link = relative(substr($0, 3))
	else
		target[link] = quote(substr($0, 3))
}
$1 == "X" {
	text = substr($0, 3)
	if (text ~ /^# file: /)
		path = substr(text, 9)
	else if (text != "") {
		if (text !~ /=/)
			text = text "=0x"
		count = (path in total) ? total[path] : 0
		# By name: file systems list attributes in any order.
		for (i = count; i > 0 && attribute[path, i] > text; i--)
			attribute[path, i + 1] = attribute[path, i]
		attribute[path, i + 1] = text
		total[path] = count + 1
	}
}
$1 == "S" {
	text = $0
	for (i = 1; i <= 11; i++)
		text = substr(text, index(text, " ") + 1)
	path = relative(text)
	kind = kinds[substr($2, 1, length($2) - 3)]
	size = (kind == "f" || kind == "l") ? $8 : "-"
	if (kind == "b" || kind == "c")
		size = number($9) ":" number($10)
	group = "-"
	if (kind != "d" && $6 > 1) {
		if (!($11 in first))
			first[$11] = quote(path)
		group = first[$11]
	}
	xattrs = ""
	for (i = 1; i <= total[path]; i++)
		xattrs = xattrs (i > 1 ? "," : "") attribute[path, i]
	printf "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", quote(path), kind, $3, $4, $5, kind == "d" ? "-" : $6, \
		$7, size, value(target, path), value(hash, path), group, xattrs == "" ? "-" : xattrs
}' | sort
