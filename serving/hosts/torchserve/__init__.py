"""TorchServe as a host: configured, started, managed, stopped."""
