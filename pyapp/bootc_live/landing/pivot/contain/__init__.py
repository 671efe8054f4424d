"""Rehearsing a root in namespaces."""
