"""Checks of callers and folders, and a bill of materials."""
