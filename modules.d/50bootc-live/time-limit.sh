#!/bin/sh
# Prints the time limit of the program in seconds: bootc.live.retry.total= for each source, and half an
# hour to build the root. The program cannot stop itself while it hangs in a library or a system
# call. An invalid value counts as one hour; Python rejects it later.

. /usr/lib/bootc-live/lib.sh

total=$(getarg bootc.live.retry.total=) || total=
number=${total%[SMHsmh]}
whole=${number%%.*}
whole=${whole#"${whole%%[!0]*}"}
whole=${whole:-0}
case $number in
"" | .* | *[!0-9.]* | *.*.* | ??????????*) total=1h whole=1 ;;
*.*) whole=$((whole + 1)) ;;
esac
case $total in
*[Mm]) whole=$((whole * 60)) ;;
*[Hh]) whole=$((whole * 3600)) ;;
esac
sources=$(bootc_live_sources)
count=0
while [ -n "$sources" ]; do
	count=$((count + 1))
	case $sources in
	*"
"*) sources=${sources#*"
"} ;;
	*) sources= ;;
	esac
done
echo $((whole * count + 1800))
