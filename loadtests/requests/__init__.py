"""Requests drawn from contracts, and whether their answers are right."""
