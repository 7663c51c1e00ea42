"""A row of the table of practices: what people recite, where it is in this repository, and what it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Effect = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Practice:
    """One row.

    Attributes:
        name: as it is recited.
        command: that applies it, in Markdown.
        code: files, from the repository's root.
        result: name of the file with its figures, without suffix; empty where there is none.
        effect: one figure of that result.
        note: what to say where there is no result.
    """

    name: str
    command: str
    code: tuple[str, ...]
    result: str = ""
    effect: Effect | None = None
    note: str = ""
