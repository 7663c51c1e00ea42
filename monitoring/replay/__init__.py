"""A real year, replayed through the real service: what the closed loop is worth."""
