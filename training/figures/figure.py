"""How a figure is written, in pages and in tables."""


def figure(value: float | None) -> str:
    """Four digits after the point, or two that count; a metric that could not be had is a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.4f}"
