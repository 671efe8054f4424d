"""The configuration of GRUB: one script that never changes, and one menu entry for each deployment.

The environment block has the names of the entries, newest first, with their counters. Only the modules of a signed GRUB
can be used. In Debian, none of them reads type 1 entries or calculates.
"""

from __future__ import annotations

from bootc_live.artifacts.netboot.loader_files import grub_words
from bootc_live.formats.boot_entry import PREFIX, Entry, EntryName

VARIABLE = "bootc_live_entries"
# Where menu entries are, from the top of the boot partition.
SNIPPETS = f"{PREFIX}/entries"

CONFIGURATION = r"""# Written by bootc-live when it installs GRUB. Do not edit it: what is started is in grubenv.
# bootc_live_entries: ORDER-DEPLOYMENT[+LEFT-DONE] of each entry, newest first.

regexp --set=1:root '^[(]([^)]+)[)]' "$prefix"
set timeout=3
load_env --file "$prefix/grubenv" bootc_live_entries

# Take one try from the entry $1, if it is counted.
function bootc_live_count {
	set list=""
	for word in $bootc_live_entries; do
		if regexp --set=1:name --set=2:left --set=3:tried '^([0-9]+-[0-9]+)[+]([1-9])-([0-8])$' "$word"; then
			if [ "$name" = "$1" ]; then
				set before=0
				for digit in 1 2 3 4 5 6 7 8 9; do
					if [ "$digit" = "$left" ]; then set less="$before"; fi
					if [ "$before" = "$tried" ]; then set more="$digit"; fi
					set before="$digit"
				done
				set word="$name+$less-$more"
			fi
		fi
		if [ -z "$list" ]; then set list="$word"; else set list="$list $word"; fi
	done
	if [ "$list" != "$bootc_live_entries" ]; then
		set bootc_live_entries="$list"
		save_env --file "$prefix/grubenv" bootc_live_entries
	fi
}

# The first entry is the default, and the others follow if its kernel cannot be loaded. Those without tries come last.
set default=0
set fallback=""
set numbers="0 1 2 3 4 5 6 7 8 9 -"
for tried_out in no yes; do
	for word in $bootc_live_entries; do
		if regexp --set=1:name '^([0-9]+-[0-9]+)' "$word"; then
			set spent=no
			if regexp '[+]0-' "$word"; then set spent=yes; fi
			if [ "$spent" = "$tried_out" -a -f "/bootc-live/entries/$name.cfg" ]; then
				source "/bootc-live/entries/$name.cfg"
				if regexp --set=1:number --set=2:numbers '^([0-9]) (.*)$' "$numbers"; then
					if [ -z "$fallback" ]; then set fallback="$number"; else set fallback="$fallback $number"; fi
				fi
			fi
		fi
	done
done

# The environment block is damaged.
if [ -z "$fallback" ]; then
	for file in /bootc-live/entries/*.cfg; do source "$file"; done
fi
"""


def menu_entry(entry: Entry) -> str:
    """Return the script that adds an entry to the menu; raise ConfigError if GRUB would change the command line."""
    title = "".join(char for char in entry.title if char not in "'\\")
    name = entry.name.identity
    lines = [
        f"menuentry '{title}' --id {name} {{",
        f"\tbootc_live_count {name.removeprefix(f'{PREFIX}-')}",
        " ".join([f"\tlinux {entry.kernel}", *grub_words(entry.cmdline)]),
        *([f"\tinitrd {entry.initrd}"] if entry.initrd else []),
        "}",
    ]
    return "\n".join([*lines, ""])


def environment_word(name: EntryName) -> str:
    """Return an entry in the environment block."""
    short = name.identity.removeprefix(f"{PREFIX}-")
    return short if name.left is None else f"{short}+{name.left}-{name.done}"
