"""An export's figures, for the terminal and for the documentation."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

HEADINGS = ("format", "kB", "runs on", "batch", "difference", "ms, 1 row", "ms, 64 rows")


def print_export(result: Mapping[str, Any], console: Console) -> None:
    """Print the table of an export, and why formats failed."""
    table = Table(title=_title(result), title_justify="left")
    for i, heading in enumerate(_headings(result)):
        table.add_column(heading, justify="left" if i in (0, 2) else "right", overflow="fold")
    for row in result["rows"]:
        table.add_row(*_cells(row))
    if result["rows"]:
        console.print(table)
    for why in result["failed"].values():
        console.print("[red]error:[/red]", end=" ")
        console.print(why, markup=False)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of an export, and why formats failed."""
    headings = _headings(result)
    lines = [f"{_title(result)}.", "", _line(headings), _line(["---"] * len(headings))]
    lines += [_line(_cells(row)) for row in result["rows"]]
    lines += ["", *(f"- {name}: {why}" for name, why in result["failed"].items())] if result["failed"] else []
    return "\n".join(lines)


def _title(result: Mapping[str, Any]) -> str:
    against = f"{result['model']} {result['version']} against its program on {result['compared_rows']:,} rows"
    return f"{against}: largest difference, median times on one thread"


def _headings(result: Mapping[str, Any]) -> list[str]:
    classifies = any("label_agreement" in row for row in result["rows"])
    return [*HEADINGS[:5], "same label" if classifies else "relative", *HEADINGS[5:]]


def _cells(row: Mapping[str, Any]) -> list[str]:
    second = f"{row['label_agreement']:.2%}" if "label_agreement" in row else f"{row['max_relative_difference']:.1e}"
    return [
        row["format"],
        f"{row['bytes'] / 1000:,.1f}",
        row["runtime"],
        row["batch"],
        f"{row['max_abs_difference']:.1e}",
        second,
        f"{row['p50_ms']:.3f}",
        f"{row['p50_64_ms']:.3f}",
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
