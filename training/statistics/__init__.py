"""Metrics that decide, how sure they are, and how rows are distributed."""
