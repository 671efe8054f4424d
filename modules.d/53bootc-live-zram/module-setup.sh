#!/bin/bash
# Compressed RAM: zram, its compressors, and the program that makes a file system.

# called by dracut
check() {
	require_binaries mke2fs || return 1
	return 255
}

# called by dracut
depends() {
	echo bootc-live
}

# called by dracut
installkernel() {
	# Older kernels load compressors by name, so zram has no dependency on them.
	hostonly='' instmods zram ext4 lzo lzo-rle lz4 lz4hc zstd
}

# called by dracut
install() {
	inst_multiple mke2fs
}
