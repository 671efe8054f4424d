"""Block devices of the kernel that this program makes, and that go away with it."""
