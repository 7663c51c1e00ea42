"""The loop: when a model is trained again, and how a version comes to be served."""
