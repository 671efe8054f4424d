"""The writable parts of a root: overlays, /etc, /var, and state on a partition."""
