"""An export's figures, for the terminal and for the documentation."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from training.figures.text import table, terminal_table

HEADINGS = ("format", "kB", "runs on", "batch", "difference", "ms, 1 row", "ms, 64 rows")


def print_export(result: Mapping[str, Any], console: Console) -> None:
    """Print the table of an export, and why formats failed."""
    if result["rows"]:
        rows = map(_cells, result["rows"])
        console.print(terminal_table(_title(result), _headings(result), rows, left=(0, 2), overflow="fold"))
    for why in result["failed"].values():
        console.print("[red]error:[/red]", end=" ")
        console.print(why, markup=False)


def markdown(result: Mapping[str, Any]) -> str:
    """The table of an export, and why formats failed."""
    failed = [f"- {name}: {why}\n" for name, why in result["failed"].items()]
    shown = table(_headings(result), map(_cells, result["rows"]))
    return "".join([f"{_title(result)}.\n\n{shown}", *(["\n", *failed] if failed else [])])


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
