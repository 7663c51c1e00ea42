"""How the result of ``python -m monitoring calibrate`` is shown."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("features", "predictions", "errors", "alarm")


def markdown(result: Mapping[str, Any]) -> str:
    """The share of windows that alarm, in each period."""
    lines = ["| windows from | windows | " + " | ".join(COLUMNS[:-1]) + " | any |", "| --- |" + " --- |" * 5]
    for row in result["rows"]:
        cells = " | ".join(f"{row[name]:.1%}" for name in COLUMNS)
        lines.append(f"| {row['period']} | {row['windows']:,} | {cells} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Share of windows of {result['window']:,} contiguous rows that alarm. Features, predictions and errors "
            f"share a level of {result['level']:.0%}. *Left out*: before it is tested, the window's rows are taken "
            "out of the reference and of what it learned is usual.",
        ]
    )
