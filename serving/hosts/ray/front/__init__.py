"""The front of the Ray host: a HAProxy on the inference port, which knows the champion of each model."""
