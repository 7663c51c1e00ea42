"""Comparison with the servers that a user would pick instead, in one run on one machine."""
