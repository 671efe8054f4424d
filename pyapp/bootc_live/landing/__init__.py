"""What becomes of a finished root: the sysroot of an initramfs, or the image's own kernel."""
