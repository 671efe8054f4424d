"""Kernel, initramfs and kernel arguments of an image, taken without making a root of it."""
