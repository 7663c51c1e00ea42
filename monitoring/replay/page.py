"""Writes what a replay found into a folder of documentation."""

from pathlib import Path

from monitoring.replay.result import draw
from training.figures.text import Marks, put
from training.improve.practices.document import RESULTS, write_result
from training.improve.practices.monitored import Replay

NAME = "closed-loop"
MARKS = Marks("<!-- begin of the figures -->", "<!-- end of the figures -->")


def write(result: Replay, docs: Path) -> list[Path]:
    """Write the result, its picture, and the figures of the page about them, where there is such a page.

    Returns:
        What was written.

    Raises:
        ValueError: the page has lost its marks.
    """
    written = [write_result(result, docs / RESULTS, NAME), docs / f"{NAME}.png"]
    draw(result, written[1])
    page = docs / f"{NAME}.md"
    if page.exists():
        put(f"{result.markdown()}\n", page, MARKS)
        written.append(page)
    return written
