"""Runs the stages of the tests: what each needs is made once, and all of them share the processors."""
