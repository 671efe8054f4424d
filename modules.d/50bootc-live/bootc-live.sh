#!/bin/sh
# bootc-live in the initramfs, for the boot and for the emergency shell.
# -I -S -B: nothing but the packed modules, no site packages, no bytecode written.
exec python3 -I -S -B /usr/lib/bootc-live/bootc-live.pyz "$@"
