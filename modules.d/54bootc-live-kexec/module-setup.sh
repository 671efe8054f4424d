#!/bin/bash
# Boot into the kernel of the image: programs that decompress its initramfs, and kexec for kernels without
# kexec_file_load(2).

# called by dracut
check() {
	return 255
}

# called by dracut
depends() {
	echo bootc-live
}

# called by dracut
install() {
	inst_multiple -o kexec xz lz4 bzip2
}
