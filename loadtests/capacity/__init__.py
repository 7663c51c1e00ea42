"""Capacity: what a service can answer, what it costs, and a fleet of it in simulated time."""
