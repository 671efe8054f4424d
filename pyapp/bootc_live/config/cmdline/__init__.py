"""The kernel command line: tokens, the table of arguments, their values, and their reference page."""
