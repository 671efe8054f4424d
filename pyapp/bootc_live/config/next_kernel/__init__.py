"""The command line of the kernel that kexec starts, and what is handed over to it."""
