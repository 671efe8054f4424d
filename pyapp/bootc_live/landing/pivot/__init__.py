"""Landing on a machine that already runs another system."""
