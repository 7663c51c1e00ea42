"""Files of labelled rows, as the monitor writes them."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import TensorSpec
from training.recipe import Split

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Row = dict[str, Any]


def row(second: float, label: Any, **features: Any) -> Row:
    """A row some seconds after the start."""
    return {"time": (START + timedelta(seconds=second)).isoformat(), "features": features, "label": label}


def doubled(count: int) -> list[Row]:
    """Rows of y = 2x, one a second."""
    return [row(i, 2.0 * (i % 5), x=float(i % 5)) for i in range(count)]


def of_split(split: Split, inputs: Sequence[TensorSpec]) -> list[Row]:
    """Rows of a regression's timeline as if each had been served at its time."""
    assert split.time is not None
    columns = []
    for spec in inputs:
        values = split.inputs[spec.name].tolist()
        columns.append([spec.categories[value] for value in values] if spec.categories else values)
    times = [datetime.fromtimestamp(second, UTC).isoformat() for second in split.time.tolist()]
    names = [spec.name for spec in inputs]
    return [
        {"time": time, "features": dict(zip(names, values, strict=True)), "label": label}
        for time, label, *values in zip(times, split.target.tolist(), *columns, strict=True)
    ]


def between(split: Split, since: str, until: str) -> Split:
    """The rows of some days, the last not included."""
    assert split.time is not None
    ends = [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in (since, until)]
    first, last = np.searchsorted(split.time, ends)
    return split.part(slice(first, last))


def write(path: Path, rows: Iterable[Row]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path
