"""The verbs for systems on a disk."""
