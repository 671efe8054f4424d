"""What several verbs share: the command line, and options that they have in common."""
