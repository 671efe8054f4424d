"""Fetch images from registries: servers, logins and mirrors."""
