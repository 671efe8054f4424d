"""How much memory a root needs, how much there is, and which layout that allows."""
