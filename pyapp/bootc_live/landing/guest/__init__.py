"""Landing in a container: the next root of one, and its init."""
