"""A model as another program leaves it, and what that program answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Made(NamedTuple):
    """A model's file, and the answers of its own framework.

    Attributes:
        options: of the command that imports it.
        columns: rows of the contract's inputs, by name.
        answers: ``(rows, numbers)``: values of each row, or the probabilities of ``labels``.
        told: what the command says, among others.
    """

    file: Path
    options: Sequence[str | Path]
    columns: Mapping[str, Sequence[Any]] = {}
    answers: Any = ()
    labels: tuple[str, ...] = ()
    told: str = ""


def example(folder: Path, row: Any) -> tuple[str | Path, ...]:
    """Write a row, and return the option that names it."""
    (folder / "row.json").write_bytes(msgspec.json.encode(row))
    return "--example", folder / "row.json"
