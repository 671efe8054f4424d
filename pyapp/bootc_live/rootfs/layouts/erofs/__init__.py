"""The erofs layout: one self-contained image, written while the layers arrive."""
