"""The directory that a boot server serves."""
