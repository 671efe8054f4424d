"""The command line of the kernel that kexec starts, and the files for it."""
