"""Random requests from contracts, and checks of their answers."""
