"""Fuzzing of what reads bytes of other people; tests/README.md says how to run it and how to add a target."""
