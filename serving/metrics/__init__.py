"""The workers' metrics: the files that they write, merged for Prometheus."""
