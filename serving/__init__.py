"""The registry of archives, and the hosts that serve them."""
