"""What every room uses: errors, the log, sizes, and text that is safe to print."""
