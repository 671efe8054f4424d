"""A source spec in, manifest bytes and blob streams out. Nothing is verified here."""
