"""What hooks of a container's boot call by name."""
