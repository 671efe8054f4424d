"""Roots on a disk: deployments, what boots them, and how one follows another."""
