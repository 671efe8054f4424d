"""Fetch over HTTP and HTTPS: trust, proxies, deadlines, ranges, and bodies that break off."""
