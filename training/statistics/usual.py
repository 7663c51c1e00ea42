"""The usual distance of rows from a reference where nothing drifts, by their span of time and their number.

Neighbours in time are alike, such as the flights of one windy day. Rows of one hour therefore differ from the reference
by more than as many rows of a week. The usual distance is learned from stretches of the known time (moving blocks,
Künsch 1989), of several spans, each thinned to several numbers of rows. A window is judged by the longest span and the
most rows that it reaches; one that reaches none gets no verdict.

Two causes of a false alarm are told apart, and an alarm must exclude both:

- **time:** the stretches' own spread, with Student's distribution for one more (Hahn and Meeker, Statistical Intervals,
  "prediction intervals"); the stretches that count are those that fit side by side;
- **chance:** the distance of as many independent rows, however constant the stretches were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from handlers.contract import Array
from handlers.contract.model_card import Stretch, Summary, Usual
from training.statistics.distribution import chance_p, distance, psi

HOUR = 3600.0  # seconds
# Spans of the stretches. None is under a day: the hours of a day have a rhythm that a part of it cannot show.
HOURS = (24, 48, 96, 168)
DAY = 24
ROWS = (100, 200, 500, 1000, 2500)  # numbers of rows of the stretches
DISJOINT = 8  # least number of stretches that fit into the known time: fewer do not show what is usual
DRAWS = 64  # number of stretches; they overlap where the time is short
FEW = 0.05  # share of the stretches that may cover fewer hours than a window must


@dataclass(frozen=True)
class Learned:
    """The stretches of one distribution.

    Attributes:
        cell: hours of a cell of ``hours_of``.
        entries: ordered by span, then by rows.
    """

    reference_rows: int
    cell: float
    entries: tuple[Stretch, ...]

    @property
    def span(self) -> float:
        """Longest span in hours."""
        return max(entry.span for entry in self.entries)

    @property
    def rows(self) -> int:
        """Largest number of rows."""
        return max(entry.rows for entry in self.entries)

    def fitting(self, rows: int, hours: float) -> Stretch | None:
        """Return the entry that judges a window; None where the window is too short or has too few rows."""
        reached = [entry for entry in self.entries if entry.rows <= rows and entry.hours <= hours]
        return max(reached, key=lambda entry: (entry.span, entry.rows), default=None)


def hours_of(times: Array, cell: float) -> float:
    """Return the hours that rows cover, each hour counted by its share of the rows.

    This is the inverse of Simpson's index over cells of time, as Kish (1965, Survey Sampling) counts effective sizes.
    Rows that come evenly cover all of their hours; a thousand in one hour and ten in the week before cover one.

    Args:
        times: ``(n,)`` seconds since the epoch.
        cell: hours of a cell.
    """
    if not len(times):
        return 0.0
    cells = ((times - times.min()) // (cell * HOUR)).astype(np.int64)
    shares = np.unique(cells, return_counts=True)[1] / len(cells)
    return float(cell / (shares**2).sum())


def whole_days(times: Array) -> int:
    """Return the place of the first row of the newest whole days; 0 where the rows span less than a day.

    A day and a quarter has twice as much of some hours as of others.

    Args:
        times: ``(n,)`` seconds since the epoch, ascending.
    """
    days = (times[-1] - times[0]) // (DAY * HOUR) if len(times) else 0
    return int(np.searchsorted(times, times[-1] - days * DAY * HOUR)) if days else 0


def learn(
    values: Array,
    summary: Summary,
    times: Array | None = None,
    loss: Callable[[Array], float] | None = None,
) -> Usual | None:
    """Learn the usual distance, for the contract.

    Args:
        values: numbers or indices of categories, in the order of ``times``.
        summary: the summary of all values.
        times: ``(n,)`` seconds since the epoch, ascending; None where neighbours are not alike.
        loss: function of some rows' values to their loss, where the values are errors.

    Returns:
        None where the rows are too few.
    """
    chance = np.random.default_rng(0)
    cell = 1.0 if times is None else _cell(times)
    stretches = _draws(len(values), chance) if times is None else _stretches(times, cell, chance)
    entries = tuple(_entry(values, summary, loss, draws) for draws in stretches)
    if not entries:
        return None
    return Usual(len(values), cell, entries)


def read_usual(usual: Usual | None) -> Learned | None:
    """Read the stretches of one distribution from a contract.

    In a former version's contract stretches have no times: windows need as many rows, over a day at least.
    """
    if usual is None:
        return None
    if usual.entries:
        assert usual.known is not None
        assert usual.cell is not None
        return Learned(usual.known, usual.cell, usual.entries)
    window, windows, mean, sd, psi = usual.window, usual.windows, usual.mean, usual.sd, usual.psi
    if window is None or windows is None or mean is None or sd is None or psi is None:
        return None
    return Learned(round(window * windows), 1.0, (Stretch(24.0, 12.0, window, windows, mean, sd, psi),))


def p_value(learned: Learned, usual: Stretch, summary: Summary, values: Array) -> float:
    """Return the probability of a distance at least as large where nothing drifts, by time or by chance alone."""
    by_time = _beyond(np.sqrt(distance(summary, values)) - usual.mean, usual.sd, usual)
    return max(by_time, chance_p(summary, values, learned.reference_rows)) if by_time < 0.5 else by_time


def limit(usual: Stretch, level: float) -> float:
    """Return the distance whose p-value by time is ``level``."""
    return float((usual.mean + stats.t.isf(level, _freedom(usual)) * usual.sd * _widened(usual)) ** 2)


def loss_limit(usual: Stretch, level: float) -> float | None:
    """Return the loss that is exceeded with probability ``level`` where nothing changed; None where it is unknown."""
    if usual.loss_mean is None or usual.loss_sd is None:
        return None
    return float(usual.loss_mean + stats.t.isf(level, _freedom(usual)) * usual.loss_sd * _widened(usual))


def _beyond(away: float, sd: float, usual: Stretch) -> float:
    return float(stats.t.sf(away / (sd * _widened(usual)), _freedom(usual))) if sd else float(away <= 0)


def _freedom(usual: Stretch) -> float:
    return max(1.0, usual.windows - 1)


def _widened(usual: Stretch) -> float:
    return float(np.sqrt(1 + 1 / usual.windows))


Drawn = tuple[float, float, float, int, list[tuple[Array, int]]]  # span, hours, windows, rows; rows and size of each


def _cell(times: Array) -> float:
    """Return an hour, or the median step between times where that is longer, such as a day."""
    steps = np.diff(np.unique(times))
    return max(1.0, float(np.median(steps)) / HOUR) if len(steps) else 1.0


def _stretches(times: Array, cell: float, chance: np.random.Generator) -> Iterator[Drawn]:
    total = (times[-1] - times[0]) / HOUR
    for span in HOURS:
        if span < cell or total < DISJOINT * span:
            continue
        lengths = span + DAY * chance.integers(span // DAY, size=DRAWS)  # part of a day would have more of some hours
        starts = times[0] + np.linspace(0, 1, DRAWS) * (total - lengths) * HOUR
        ends = np.searchsorted(times, np.stack([starts, starts + lengths * HOUR]))
        inside = [np.arange(first, last) for first, last in ends.T if last - first >= ROWS[0]]
        covered = np.array([hours_of(times[stretch], cell) for stretch in inside])
        for rows in ROWS:
            enough = np.array([len(stretch) >= rows for stretch in inside], bool)
            if enough.sum() < DRAWS // 2:  # too few stretches have this many rows
                break
            fitting = [stretch for stretch, long in zip(inside, enough, strict=True) if long]
            hours = float(np.quantile(covered[enough], FEW))
            drawn = [(np.sort(chance.choice(stretch, rows, replace=False)), len(stretch)) for stretch in fitting]
            yield span, hours, total / span, rows, drawn


def _draws(count: int, chance: np.random.Generator) -> Iterator[Drawn]:
    """Yield stretches of rows that have no order: any of the rows, without a span of time."""
    for rows in ROWS:
        if count >= max(2 * rows, DISJOINT * ROWS[0]):
            drawn = [(chance.choice(count, rows, replace=False), rows) for _ in range(4 * DRAWS)]
            yield 0.0, 0.0, float(4 * DRAWS), rows, drawn


def _entry(
    values: Array,
    summary: Summary,
    loss: Callable[[Array], float] | None,
    draws: Drawn,
) -> Stretch:
    span, hours, windows, rows, drawn = draws
    # The stretch is part of the summary: were it left out, it would be further away by this factor.
    roots = [np.sqrt(distance(summary, values[stretch]) / (1 - size / len(values))) for stretch, size in drawn]
    indices = [psi(summary, values[stretch]) for stretch, _ in drawn[:: max(1, len(drawn) // DRAWS)]]
    losses = [loss(values[stretch]) for stretch, _ in drawn] if loss else []
    return Stretch(
        span=span,
        hours=_rounded(hours),
        rows=rows,
        windows=_rounded(windows),
        mean=_rounded(np.mean(roots)),
        sd=_rounded(np.std(roots, ddof=1)),
        psi=_rounded(np.quantile(indices, 0.99)),
        loss_mean=_rounded(np.mean(losses)) if losses else None,
        loss_sd=_rounded(np.std(losses, ddof=1)) if losses else None,
    )


def _rounded(value: float | np.floating[Any]) -> float:
    return float(f"{value:.6g}")
