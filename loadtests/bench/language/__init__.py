"""Comparison of the language model with the programs that a user would pick instead, in one run on one machine."""
