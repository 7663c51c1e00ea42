"""Measurements of how often quality and drift alarm, with and without a change."""
