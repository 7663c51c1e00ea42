"""Checks of what is stored: captured rows and labels, against the contracts of their models."""
