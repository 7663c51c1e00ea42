"""Shares of windows of a recipe's timeline that alarm, in a period without drift and after it.

marloop calibrate flights
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from handlers.contract import ModelContract
from monitoring.calibration.timeline import Timeline
from monitoring.live.drift import KINDS, LEVEL, Drift, detect
from training.figures.machine import machine
from training.figures.picture import picture
from training.improve.practices.monitored import AlarmsRow, DriftAlarms

LEFT_OUT = 20  # windows that are removed from the reference; side by side they cover the reference rows of flights


def calibrate(
    year: Timeline,
    since: datetime,
    until: datetime,
    windows: int = 200,
    left_out: int = LEFT_OUT,
    step: Callable[[str], None] = lambda text: None,
) -> DriftAlarms:
    """Draw windows and count those that alarm, as a result for ``docs/practices``.

    Args:
        since: begin of the period that has drifted.
        until: its end.
        windows: number drawn from the reference rows, and from that period; a quarter as many from each later month.
        left_out: number of windows that are removed from the reference before they are tested.
    """
    started = time.monotonic()
    chance = np.random.default_rng(0)

    def drawn(start: int, stop: int, count: int) -> Iterator[Drift]:
        for first in chance.integers(start, stop - year.window + 1, count):
            yield _detect(year, year.contract, int(first))

    step(f"windows of {year.window:,} rows from the {year.reference_rows:,} that the version knows")
    rows = [_row("known", list(drawn(0, year.reference_rows, windows)))]
    starts = np.unique(np.linspace(0, year.reference_rows - year.window, left_out).astype(int)).tolist()
    step(f"{len(starts)} windows left out of the reference")
    rows.append(_row("known, left out", [_left_out(year, start) for start in starts]))
    step("windows after what the version knows")
    name = f"{since:%Y-%m-%d} to {until:%Y-%m-%d}"
    rows.append(_row(name, list(drawn(year.place(since), year.place(until), windows))))
    for label, start, stop in _months(year):
        rows.append(_row(label, list(drawn(start, stop, max(1, windows // 4)))))
    return DriftAlarms(
        model=year.contract.name,
        run=f"marloop calibrate {year.contract.name}",
        seconds=round(time.monotonic() - started, 1),
        machine=machine(),
        version=year.contract.version,
        window=year.window,
        level=LEVEL,
        rows=rows,
    )


def draw_alarms(result: DriftAlarms, path: Path) -> None:
    """Draw the share of windows that alarm as a PNG."""
    rows = result.rows
    with picture(path, 9, 3.6) as figure:
        axes = figure.subplots()
        for i, kind in enumerate(KINDS):
            places = np.arange(len(rows)) + 0.27 * (i - 1)
            axes.bar(places, [getattr(row, kind) for row in rows], 0.25, label=kind)
        labels = [row.period.replace(" to ", "\nto ") for row in rows]
        axes.set_xticks(range(len(rows)), labels, rotation=45, fontsize=8)
        axes.set(ylabel="share of windows that alarm", ylim=(0, 1))
        axes.legend()


def _detect(year: Timeline, contract: ModelContract, start: int) -> Drift:
    labelled = year.labelled(start, start + year.window)
    return detect(contract, [row.prediction for row in labelled], labelled)


def _left_out(year: Timeline, start: int) -> Drift:
    return _detect(year, year.without(start, start + year.window), start)


def _months(year: Timeline) -> Iterator[tuple[str, int, int]]:
    """Yield name, first row and end of each month after the reference rows that holds a window at least."""
    start = year.reference_rows
    while start < len(year.rows):
        this = year.month(start)
        end = year.place(datetime(this[0] + this[1] // 12, this[1] % 12 + 1, 1, tzinfo=UTC))
        if end - start >= year.window:
            yield f"{this[0]}-{this[1]:02}", start, end
        start = end


def _row(period: str, drifts: Sequence[Drift]) -> AlarmsRow:
    shares = {kind: sum(drift.alarms.get(kind, False) for drift in drifts) / len(drifts) for kind in KINDS}
    alarm = sum(drift.alarm for drift in drifts) / len(drifts)
    return AlarmsRow(period=period, windows=len(drifts), alarm=alarm, **shares)
