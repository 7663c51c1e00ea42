"""What is known of the served models right now: probes, quality, drift."""
