"""Watching the models that are served: probes, and what is made of their metrics."""
