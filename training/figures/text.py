"""Numbers, tables for pages and for a terminal, and the part of a page that is written by a command."""

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import OverflowMethod
from rich.table import Table

from serving.documents import write_atomically


def figure(value: float | None) -> str:
    """Format a figure with four digits after the point, or two significant ones; None and NaN are a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 5e-4 else f"{value:.4f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> str:
    """Format a Markdown table; ``right`` holds the indexes of columns that are aligned to the right."""
    rule = ["---:" if i in right else "---" for i in range(len(head))]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in (head, rule, *rows))
    return "".join(f"| {line} |\n" for line in cells)


def terminal_table(
    title: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: Container[int] = (0,),
    overflow: OverflowMethod = "ellipsis",
) -> Table:
    """Build a table for a terminal; ``left`` holds the indexes of columns that are aligned to the left."""
    shown = Table(title=title, title_justify="left")
    for i, column in enumerate(head):
        shown.add_column(column, justify="left" if i in left else "right", overflow=overflow)
    for row in rows:
        shown.add_row(*row)
    return shown


class Marks(NamedTuple):
    """The comments around the part of a page that a command writes.

    Attributes:
        begin: mark before the part.
        end: mark after the part.
        title: heading of a page that is made anew; empty for a page that must exist.
    """

    begin: str
    end: str
    title: str = ""


def put(part: str, page: Path, marks: Marks) -> None:
    """Write a part of a page between its marks; a page that may be made gets them at its end where it has none.

    Raises:
        ValueError: a mark is missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else f"# {marks.title}\n"
    if marks.title and marks.begin not in text and marks.end not in text:
        text = f"{text.rstrip()}\n\n{marks.begin}\n{marks.end}\n"
    before, begun, rest = text.partition(marks.begin)
    _, ended, after = rest.partition(marks.end)
    if not (begun and ended):
        raise ValueError(f"{page} has lost its marks: it needs {marks.begin!r} and then {marks.end!r}")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, f"{before}{marks.begin}\n{part}{marks.end}{after}".encode())
