"""Images in registries (OCI distribution specification), by mirrors and the registry itself."""
