"""File formats as pure functions: bytes and structures in and out, no policy, no kernel argument, no mount."""
