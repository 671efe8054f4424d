"""What an initramfs needs of Python: which modules are loaded, and writing them compiled."""
