"""Landing in the image's own kernel by kexec."""
