"""The ways to install an image on a disk."""
