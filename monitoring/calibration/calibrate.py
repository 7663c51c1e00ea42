"""How often drift alarms where nothing drifts, and where the world moves on: windows drawn from a recipe's timeline.

python -m monitoring calibrate flights
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

LEFT_OUT = 20  # windows that are taken out of the reference; side by side they are all that flights knows


def calibrate(
    year: Timeline,
    since: datetime,
    until: datetime,
    windows: int = 200,
    left_out: int = LEFT_OUT,
    step: Callable[[str], None] = lambda text: None,
) -> DriftAlarms:
    """Draw windows and look how many alarm.

    Args:
        since: begin of the period in which the world has moved on.
        until: its end.
        windows: that are drawn from the known rows, and from that period; a quarter as many from each later month.
        left_out: windows that are taken out of the reference before they are tested.

    Returns:
        A result for ``docs/practices``.
    """
    started = time.monotonic()
    chance = np.random.default_rng(0)

    def drawn(start: int, stop: int, count: int) -> Iterator[Drift]:
        for first in chance.integers(start, stop - year.window + 1, count):
            yield _detect(year, year.contract, int(first))

    step(f"windows of {year.window:,} rows from the {year.known:,} that the version knows")
    rows = [_row("known", list(drawn(0, year.known, windows)))]
    starts = np.unique(np.linspace(0, year.known - year.window, left_out).astype(int)).tolist()
    step(f"{len(starts)} windows left out of the reference")
    rows.append(_row("known, left out", [_left_out(year, start) for start in starts]))
    step("windows after what the version knows")
    name = f"{since:%Y-%m-%d} to {until:%Y-%m-%d}"
    rows.append(_row(name, list(drawn(year.place(since), year.place(until), windows))))
    for label, start, stop in _months(year):
        rows.append(_row(label, list(drawn(start, stop, max(1, windows // 4)))))
    return DriftAlarms(
        model=year.contract.name,
        run=f"python -m monitoring calibrate {year.contract.name}",
        seconds=round(time.monotonic() - started, 1),
        machine=machine(),
        version=year.contract.version,
        window=year.window,
        level=LEVEL,
        rows=rows,
    )


def draw(result: DriftAlarms, path: Path) -> None:
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
    return detect(contract, [one.prediction for one in labelled], labelled)


def _left_out(year: Timeline, start: int) -> Drift:
    return _detect(year, year.without(start, start + year.window), start)


def _months(year: Timeline) -> Iterator[tuple[str, int, int]]:
    """Name, first row and end of each month after the known rows that holds a window at least."""
    start = year.known
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
