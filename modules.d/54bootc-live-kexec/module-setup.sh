#!/bin/bash
# On into the image's own kernel: programs that look into its initramfs, and that load kernels where the kernel's
# own call for files is missing. bootc-live itself makes that call.

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
