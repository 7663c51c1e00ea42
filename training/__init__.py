"""From a recipe to a registered archive: fit, evaluate, export, check, package."""
