"""The tree layout: real files on a tmpfs or on zram."""
