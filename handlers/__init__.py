"""What runs inside a TorchServe worker: packed whole into every archive, imports nothing else of the project."""
