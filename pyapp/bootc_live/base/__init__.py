"""Thin base below every stage: errors, log, processes, mounts."""
