"""What an initramfs needs of Python to run this program: found by asking, compiled, written."""
