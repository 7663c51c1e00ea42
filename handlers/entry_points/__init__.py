"""Modules that TorchServe loads by their bare names, one for each kind of archive."""
