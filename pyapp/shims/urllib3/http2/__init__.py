"""Replaces the part of urllib3 that switches to HTTP/2, which nothing here does.

It looks for the package h2 with importlib.metadata, whose import takes longer than that of all the rest of urllib3's
connections.
"""
