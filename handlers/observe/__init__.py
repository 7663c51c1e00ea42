"""What a worker tells of its work: metrics, logs, and captured predictions."""
