"""Find what is wrong on the disk of a machine, and what can be done about it."""
