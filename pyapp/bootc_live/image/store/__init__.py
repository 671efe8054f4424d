"""The data file: layers are inflated into it and hashed there."""
