"""Load on the running service, and speed of its parts."""
