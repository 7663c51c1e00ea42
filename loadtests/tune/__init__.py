"""Which settings serve a model best, and whether serving has become slower."""
