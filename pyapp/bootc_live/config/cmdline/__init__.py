"""The kernel command line: the table of arguments, tokens, values, and the page that documents them."""
