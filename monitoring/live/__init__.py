"""The present state of the served models: probes, quality, drift."""
