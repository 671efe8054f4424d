#!/bin/sh
# Runs bootc-live in the initramfs.
# -I -S -B: use only the packed modules, without site packages, and write no bytecode.
exec /usr/lib/bootc-live/python -I -S -B /usr/lib/bootc-live/bootc-live.pyz "$@"
