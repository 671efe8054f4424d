"""bootc-live: boot a machine straight into an OCI (bootc) image, from RAM."""

__version__ = "0.1.0"
