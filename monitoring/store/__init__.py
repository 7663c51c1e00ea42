"""The monitor's memory: predictions, labels, jobs and decisions in a database."""
