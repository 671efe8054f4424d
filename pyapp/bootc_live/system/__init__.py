"""The kernel and its programs: processes, mounts, loop and zram devices, memory, the clock, kexec."""
