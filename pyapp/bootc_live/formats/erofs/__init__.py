"""Structures of the EROFS on-disk format."""
