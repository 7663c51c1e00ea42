"""Tuning of a model's serving settings, and a guard against slower serving."""
