"""Writes what a replay found into a folder of documentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.replay.result import draw
from training.improve.practices.document import RESULTS, write_json
from training.improve.practices.replay_result import markdown

NAME = "closed-loop"
BEGIN, END = "<!-- begin of the figures -->", "<!-- end of the figures -->"


def write(result: Mapping[str, Any], docs: Path) -> list[Path]:
    """Write the result, its picture, and the figures of the page about them, where there is such a page.

    Returns:
        What was written.
    """
    written = [write_json(result, docs / RESULTS / f"{NAME}.json"), docs / f"{NAME}.png"]
    draw(result, written[1])
    page = docs / f"{NAME}.md"
    if page.exists():
        page.write_text(with_figures(page.read_text(), result))
        written.append(page)
    return written


def with_figures(page: str, result: Mapping[str, Any]) -> str:
    """The page with these figures between its marks.

    Raises:
        ValueError: they are not there.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, foot = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{NAME}.md has lost its marks, {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n{markdown(result)}\n{END}{foot}"
