"""Packaging of a fitted module as a version in the registry: export, archive, registration."""
