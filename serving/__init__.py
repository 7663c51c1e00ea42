"""The registry of archives, and TorchServe: starting it, asking it, stopping it."""
