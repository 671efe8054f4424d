"""Tar archives of other projects' test suites, which vm/tars/make fetches, and what everybody makes of them."""
