"""The hosts, which serve archives."""
