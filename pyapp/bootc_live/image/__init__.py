"""Streams in, a verified image out. Bytes that fail a check never leave this stage."""
