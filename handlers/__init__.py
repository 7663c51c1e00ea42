"""The code of a worker, packed into every archive; it imports nothing else of the project."""
