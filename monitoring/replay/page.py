"""Writes the result of a replay into a folder of documentation."""

from pathlib import Path

from monitoring.replay.result import draw_errors
from training.figures.picture import beside
from training.figures.text import Marks, put
from training.improve.practices.document import RESULTS, write_result
from training.improve.practices.monitored import Replay

NAME = "closed-loop"
MARKS = Marks("<!-- begin of the figures -->", "<!-- end of the figures -->")


def write_replay(result: Replay, docs: Path) -> list[Path]:
    """Write the result, its picture, and the figures of the page about them if it exists; return the paths.

    Raises:
        ValueError: the page has lost its marks.
    """
    page = docs / f"{NAME}.md"
    paths = [write_result(result, docs / RESULTS, NAME), beside(page)]
    draw_errors(result, paths[1])
    if page.exists():
        put(f"{result.markdown()}\n", page, MARKS)
        paths.append(page)
    return paths
