"""A disk for a root: which one, whether it may be used, its partitions and file systems."""
