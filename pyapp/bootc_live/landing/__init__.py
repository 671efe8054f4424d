"""A root in, a running system out."""
