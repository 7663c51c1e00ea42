"""Reports of a worker: metrics, logs, and captured predictions."""
