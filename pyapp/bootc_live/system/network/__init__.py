"""The network of the kernel, without programs."""
