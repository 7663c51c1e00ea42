"""HTTP of the direct host: bodies, compression, timeouts, other origins."""
