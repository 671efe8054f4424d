"""What of a root can be written: overlays, /etc, /var, and state on a partition."""
