"""The verbs of the command line; each module is imported only when its verb is used."""
