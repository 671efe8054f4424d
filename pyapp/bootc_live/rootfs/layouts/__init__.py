"""The three layouts of a root in RAM: each builds something that can be mounted."""
