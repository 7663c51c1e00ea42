"""What Locust counted: read, shown to Prometheus, judged at a run's end."""
