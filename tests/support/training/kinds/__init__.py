"""A model of every kind that can be brought, and what its own framework answers."""
