#!/bin/sh
# bootc-live in the initramfs, for the boot and for the emergency shell.
# -I -S -B: nothing but the packed modules, no site packages, no bytecode written.
exec /usr/lib/bootc-live/python -I -S -B /usr/lib/bootc-live/bootc-live.pyz "$@"
