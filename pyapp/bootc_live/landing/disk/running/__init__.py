"""What runs from a disk, and going on in another deployment without another kernel."""
