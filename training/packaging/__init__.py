"""From a fitted module to a version in the registry: export, archive, registration."""
