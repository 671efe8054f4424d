#!/bin/bash
# RAM that compresses: zram, its compressors, and what makes a file system on it.

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
	# Older kernels look the compressors up by name in their crypto layer, so nothing depends on those.
	hostonly='' instmods zram ext4 lzo lzo-rle lz4 lz4hc zstd
}

# called by dracut
install() {
	inst_multiple mke2fs
}
