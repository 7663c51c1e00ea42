"""How often quality and drift alarm where nothing changed, by the time and the rows that are looked at.

python -m monitoring false-alarms

Windows are drawn from the rows that a version knows, at random times: of every span so many rows, as a service of more
or of less traffic would have them. Beside it the power: the same of rows after the world has moved on.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from handlers.contract import Array
from monitoring.calibration.timeline import Timeline
from monitoring.live.drift import KINDS, detect
from monitoring.live.quality import fell, measure
from monitoring.store.records import Labelled
from serving.settings import ROOT
from training.figures import text
from training.figures.machine import machine
from training.figures.text import Marks

ROWS = (200, 500, 1000, 2500, 5000)
SPANS = (0.7, 6.0, 24.5, 49.0, 170.0)  # hours; the first is that of a row a second, 2,500 of which are looked at
CONTIGUOUS = "as they came"
PAGE = ROOT / "docs" / "calibration.md"
MARKS = Marks("<!-- begin of the table -->", "<!-- end of the table -->")
MOVED = {"flights": (datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC))}  # else all that follows


@dataclass(frozen=True)
class Share:
    """Of some windows, how many alarm.

    Attributes:
        windows: that were drawn.
        judged: of these, how many drift or quality could judge.
        alarms: of each kind of drift, and of ``quality``, the number of windows.
    """

    windows: int
    judged: int
    alarms: Mapping[str, int]

    @property
    def any(self) -> float:
        """The share of windows that ask for a retraining: by their quality or by the drift of their errors."""
        return self.alarms["asking"] / self.windows if self.windows else 0.0


def count(stream: Timeline, windows: Iterator[Array], made: dict[int, Labelled]) -> Share:
    """Look at windows as the monitor does.

    Args:
        stream: of the rows.
        windows: the places of the rows of each, in order.
        made: rows as the store would tell them, by place; those that it lacks are added.
    """
    alarms = dict.fromkeys((*KINDS, "quality", "asking"), 0)
    drawn = judged = 0
    for rows in windows:
        for row in map(int, rows):
            if row not in made:
                (made[row],) = stream.labelled(row, row + 1)
        quality, drift = _look(stream, [made[int(row)] for row in rows])
        drawn += 1
        judged += bool(drift) or quality is not None
        for kind, alarm in drift.items():
            alarms[kind] += alarm
        alarms["quality"] += bool(quality)
        alarms["asking"] += bool(quality) or drift.get("errors", False)
    return Share(drawn, judged, alarms)


def draw(
    stream: Timeline, first: int, last: int, span: float | None, rows: int, windows: int, chance: np.random.Generator
) -> Iterator[Array]:
    """Draw windows.

    Args:
        stream: of rows in order of time, or in no order.
        first: place of the first row that may be taken.
        last: place after the last one.
        span: hours; None for as many rows as they came, one after the other.
        rows: of a window; of a stretch with fewer, rows are drawn more than once, as a faster service would have them.
        windows: how many.
        chance: draws.
    """
    times = stream.rows.time
    for _ in range(windows):
        if span is None or times is None:
            if times is None:  # in no order: any rows are a window
                yield np.sort(chance.choice(np.arange(first, last), rows, replace=rows > last - first))
                continue
            start = int(chance.integers(first, max(first + 1, last - rows)))
            yield np.arange(start, min(start + rows, last))
            continue
        begin = times[first] + chance.uniform(0, times[last - 1] - times[first] - span * 3600)
        inside = np.arange(*np.searchsorted(times, [begin, begin + span * 3600]))
        if len(inside):
            yield np.sort(chance.choice(inside, rows, replace=rows > len(inside)))


def table(streams: Mapping[str, Timeline], windows: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Count the alarms of every stream, span and number of rows.

    Args:
        streams: by name.
        windows: of each, from what is known; half as many from what came after.

    Returns:
        A result as JSON.
    """
    started = time.monotonic()
    cells = []
    for name, stream in streams.items():
        made: dict[int, Labelled] = {}
        spans: Sequence[float | None] = (None,) if stream.rows.time is None else (None, *SPANS)
        for span in spans:
            step(f"{name}, {_span(span, stream)}")
            cells += [_cell(name, stream, span, rows, windows, made) for rows in ROWS]
    return {
        "run": f"python -m monitoring false-alarms --windows {windows}",
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
        "windows": windows,
        "cells": cells,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The result as a table: false alarms in each cell, with the power of the same windows."""
    lines: dict[tuple[str, str], list[str]] = {}
    for cell in result["cells"]:
        lines.setdefault((cell["stream"], cell["span"]), []).append(_told(cell))
    shown = text.table(
        ["stream", "window", *(f"{rows:,} rows" for rows in ROWS)], ([*key, *cells] for key, cells in lines.items())
    )
    judged = [one for one in result["cells"] if one["judged"]]
    total = sum(one["windows"] for one in judged)
    each = ", ".join(
        f"{kind} {sum(one['alarms'][kind] for one in judged) / max(1, total):.2%}" for kind in (*KINDS, "quality")
    )
    return f"{shown}\nFalse alarms over all {total:,} windows of cells with a verdict: {each}."


def write(result: Mapping[str, Any], page: Path = PAGE) -> None:
    """Put the table into the page, between its marks."""
    text.put(f"{markdown(result)}\n", page, MARKS)


def _cell(
    name: str, stream: Timeline, span: float | None, rows: int, windows: int, made: dict[int, Labelled]
) -> dict[str, Any]:
    chance = np.random.default_rng(0)
    known = count(stream, draw(stream, 0, stream.known, span, rows, windows, chance), made)
    first, last = stream.known, len(stream.rows)
    if name in MOVED:
        first, last = (stream.place(moment) for moment in MOVED[name])
    moved = None
    if last - first >= rows and known.judged:
        later = draw(stream, first, last, span, rows, max(1, windows // 2), chance)
        moved = count(stream, later, made).any
    return {
        "stream": name,
        "span": _span(span, stream),
        "rows": rows,
        "windows": known.windows,
        "judged": known.judged,
        "alarms": dict(known.alarms),
        "power": moved,
    }


def _look(stream: Timeline, labelled: Sequence[Labelled]) -> tuple[bool | None, dict[Any, bool]]:
    contract = stream.contract
    measured = measure(contract, labelled).versions[contract.version]
    drift = detect(contract, [one.prediction for one in labelled], labelled)
    return (fell(contract, measured) if measured.limits else None), drift.alarms


def _span(span: float | None, stream: Timeline) -> str:
    if span is None:
        return CONTIGUOUS if stream.rows.time is not None else "in no order"
    return f"{span * 60:.0f} minutes" if span < 1 else f"{span:g} hours"


def _told(cell: Mapping[str, Any]) -> str:
    if not cell["judged"]:
        return "no verdict"
    alarms, windows = cell["alarms"], cell["windows"]
    drift = max(alarms["features"], alarms["predictions"]) / windows
    told = f"{alarms['quality'] / windows:.1%}, {alarms['errors'] / windows:.1%}, {drift:.1%}"
    power = "" if cell["power"] is None else f"; {cell['power']:.0%}"
    return told + power
