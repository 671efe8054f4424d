"""Kernel command line and host files in, frozen types such as ``Config`` out."""
