"""Tar archives: ustar, pax and GNU headers, sparse members, and a reader in place."""
