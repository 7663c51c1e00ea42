"""What decides between two versions; apart from what measures it, so that a reader of figures need not load torch."""

# The metric of each task, and whether more of it is better.
PRIMARY: dict[str, tuple[str, bool]] = {"regression": ("rmse", False), "classification": ("accuracy", True)}
