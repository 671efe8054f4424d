"""Text of the kernel command line in, one frozen ``Config`` out."""
