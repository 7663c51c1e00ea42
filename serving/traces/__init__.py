"""Traces of requests by OpenTelemetry, an extra. Only ``setup`` loads without it."""
