"""Replaces what oras uses for files and for Docker's own configuration: our code reads and writes both itself.

The published module loads tarfile and gzip, which take room in every initramfs.
"""
