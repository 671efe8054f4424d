"""Where roots are kept on a disk: in files that they share, or in partitions."""
