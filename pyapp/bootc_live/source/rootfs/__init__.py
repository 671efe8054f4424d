"""Roots that are not images: a directory, or a tar of its files."""
