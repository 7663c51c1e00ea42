"""Rates of false alarms of quality and drift, by span and number of rows of the window.

marloop false-alarms

Windows are drawn from a version's reference rows, at random times: of each span several numbers of rows, as services
with more or less traffic would have them. The power is the same rate of rows after the world has changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from handlers.contract import Array
from monitoring.calibration.timeline import Timeline
from monitoring.live.drift import KINDS, detect
from monitoring.live.quality import fell, measure
from monitoring.store.records import Labelled
from serving.settings import ROOT
from training.figures import text
from training.figures.text import Marks

ROWS = (200, 500, 1000, 2500, 5000)
SPANS = (0.7, 6.0, 24.5, 49.0, 170.0)  # hours; the first is that of 2,500 rows at a row a second
CONTIGUOUS = "as they came"
PAGE = ROOT / "docs" / "calibration.md"
MARKS = Marks("<!-- begin of the table -->", "<!-- end of the table -->")
MOVED = {"flights": (datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 10, 1, tzinfo=UTC))}  # for others: all later rows


class Share(Struct, frozen=True):
    """Numbers of windows that alarm.

    Attributes:
        windows: number of windows that were drawn.
        judged: windows that drift or quality could judge.
        alarms: windows by kind of drift, of ``quality``, and ``asking`` for a retraining.
    """

    windows: int
    judged: int
    alarms: Mapping[str, int]

    @property
    def any(self) -> float:
        """Return the share of windows that ask for a retraining: by their quality or by the drift of their errors."""
        return self.alarms["asking"] / self.windows if self.windows else 0.0


class Cell(Struct, frozen=True):
    """The alarms of one stream, span and number of rows.

    Attributes:
        span: in words.
        reference: windows of the version's reference rows.
        power: share of later windows that ask for a retraining; None where there were none.
    """

    stream: str
    span: str
    rows: int
    reference: Share
    power: float | None


def count(stream: Timeline, windows: Iterator[Array], cache: dict[int, Labelled]) -> Share:
    """Judge windows as the monitor does, and count the alarms.

    Args:
        windows: the places of each window's rows, the newest last.
        cache: rows as the store would return them, by place; missing ones are added.
    """
    alarms = dict.fromkeys((*KINDS, "quality", "asking"), 0)
    drawn = judged = 0
    for rows in windows:
        for row in map(int, rows):
            if row not in cache:
                (cache[row],) = stream.labelled(row, row + 1)
        quality, drift = _look(stream, [cache[int(row)] for row in rows])
        drawn += 1
        judged += bool(drift) or quality is not None
        for kind, alarm in drift.items():
            alarms[kind] += alarm
        alarms["quality"] += bool(quality)
        alarms["asking"] += bool(quality) or drift.get("errors", False)
    return Share(drawn, judged, alarms)


def draw_windows(
    stream: Timeline, places: range, span: float | None, rows: int, windows: int, chance: np.random.Generator
) -> Iterator[Array]:
    """Draw windows, and yield the places of each one's rows, the newest last.

    Args:
        places: range of the rows to draw from.
        span: hours; None for rows that came one after the other.
        rows: number in a window; rows of a stretch with fewer are drawn more than once, as of a faster service.
        windows: number of windows.
    """
    times, first, last = stream.rows.time, places.start, places.stop
    for _ in range(windows):
        if span is None or times is None:
            if times is None:  # any rows in any order: drift looks at the newest, which must not be the file's last
                yield chance.choice(np.array(places), rows, replace=rows > last - first)
                continue
            start = int(chance.integers(first, max(first + 1, last - rows)))
            yield np.arange(start, min(start + rows, last))
            continue
        begin = times[first] + chance.uniform(0, times[last - 1] - times[first] - span * 3600)
        inside = np.arange(*np.searchsorted(times, [begin, begin + span * 3600]))
        if len(inside):
            yield np.sort(chance.choice(inside, rows, replace=rows > len(inside)))


def measure_cells(streams: Mapping[str, Timeline], windows: int, step: Callable[[str], None]) -> list[Cell]:
    """Count the alarms of every stream, span and number of rows.

    Args:
        windows: number for each cell from the reference rows; half as many from the later ones.
    """
    cells = []
    for name, stream in streams.items():
        cache: dict[int, Labelled] = {}
        spans: Sequence[float | None] = (None,) if stream.rows.time is None else (None, *SPANS)
        for span in spans:
            step(f"{name}, {_span(span, stream)}")
            cells += [_cell(name, stream, span, rows, windows, cache) for rows in ROWS]
    return cells


def markdown(cells: Sequence[Cell]) -> str:
    """Return a table: false alarms in each cell, with the power of the same windows."""
    lines: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        lines.setdefault((cell.stream, cell.span), []).append(_shares(cell))
    table = text.table(
        ["stream", "window", *(f"{rows:,} rows" for rows in ROWS)], ([*key, *shares] for key, shares in lines.items())
    )
    judged = [cell.reference for cell in cells if cell.reference.judged]
    total = sum(share.windows for share in judged)
    each = ", ".join(
        f"{kind} {sum(share.alarms[kind] for share in judged) / max(1, total):.2%}" for kind in (*KINDS, "quality")
    )
    return f"{table}\nFalse alarms over all {total:,} windows of cells with a verdict: {each}."


def write_table(cells: Sequence[Cell], page: Path = PAGE) -> None:
    """Put the table into the page, between its marks."""
    text.put(f"{markdown(cells)}\n", page, MARKS)


def _cell(name: str, stream: Timeline, span: float | None, rows: int, windows: int, cache: dict[int, Labelled]) -> Cell:
    chance = np.random.default_rng(0)
    reference = count(stream, draw_windows(stream, range(stream.reference_rows), span, rows, windows, chance), cache)
    places = range(stream.reference_rows, len(stream.rows))
    if name in MOVED:
        places = range(*(stream.place(moment) for moment in MOVED[name]))
    power = None
    if len(places) >= rows and reference.judged:
        later = draw_windows(stream, places, span, rows, max(1, windows // 2), chance)
        power = count(stream, later, cache).any
    return Cell(name, _span(span, stream), rows, reference, power)


def _look(stream: Timeline, labelled: Sequence[Labelled]) -> tuple[bool | None, dict[Any, bool]]:
    contract = stream.contract
    measured = measure(contract, labelled).versions[contract.version]
    drift = detect(contract, [row.prediction for row in labelled], labelled)
    return (fell(contract, measured) if measured.limits else None), drift.alarms


def _span(span: float | None, stream: Timeline) -> str:
    if span is None:
        return CONTIGUOUS if stream.rows.time is not None else "in no order"
    return f"{span * 60:.0f} minutes" if span < 1 else f"{span:g} hours"


def _shares(cell: Cell) -> str:
    alarms, windows = cell.reference.alarms, cell.reference.windows
    if not cell.reference.judged:
        return "no verdict"
    drift = max(alarms["features"], alarms["predictions"]) / windows
    shares = f"{alarms['quality'] / windows:.1%}, {alarms['errors'] / windows:.1%}, {drift:.1%}"
    return shares if cell.power is None else f"{shares}; {cell.power:.0%}"
