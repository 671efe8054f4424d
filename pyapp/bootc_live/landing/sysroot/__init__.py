"""Landing on the sysroot of an initramfs, where switch-root continues."""
