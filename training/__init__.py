"""Training: a recipe becomes a registered archive by fit, evaluation, export, checks and packaging."""
