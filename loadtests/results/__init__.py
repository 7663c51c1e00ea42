"""Locust's statistics: read, shown to Prometheus, judged at a run's end."""
