"""Fitting a recipe's network: one process or several, from checkpoint to checkpoint."""
