"""Two opposite settings for TorchServe's batches of a model's requests.

The names are those of a recipe's serving settings and of the candidates that `make tune` tries.
"""

# An answer at once, each request alone; or many requests in one pass through the graph (max_batch_delay in ms).
PROFILES: dict[str, dict[str, int]] = {
    "latency": {"batch_size": 1},
    "throughput": {"batch_size": 64, "max_batch_delay": 1},
}
