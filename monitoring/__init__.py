"""The monitor of the served models: probes, quality, drift, retraining and dashboards."""
