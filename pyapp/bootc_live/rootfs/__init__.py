"""A verified image in, a mounted read-only root in RAM out, plus its writable parts."""
