"""What a guest's YAML file says."""
