"""Builds the test system of bootc-live and boots it, in QEMU or in namespaces."""

from vmkit.guest import Guest, GuestError, Ready

__all__ = ["Guest", "GuestError", "Ready"]
