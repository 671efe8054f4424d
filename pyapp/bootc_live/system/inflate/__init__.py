"""Inflate layers and kernels: unverified bytes, which only a confined process reads."""
