"""The monitor's calls over HTTP, a router a file, and what every call must be."""
