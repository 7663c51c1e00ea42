"""The monitor's calls over HTTP, a router a file, and the checks of every call."""
