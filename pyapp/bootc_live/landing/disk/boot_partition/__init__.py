"""The boot partition: boot loaders, menu entries, and switching between deployments by one write."""
