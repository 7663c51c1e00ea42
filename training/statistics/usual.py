"""How far some rows are from a reference where nothing drifts: by how much time and how many rows they are.

Neighbours in time are alike, such as the flights of one windy day, so that rows of one hour differ from the reference
by more than as many rows of a week. What is usual is therefore learned from stretches of the known time (moving blocks,
Künsch 1989), of several spans, each thinned to several numbers of rows. A window is judged by the longest span and the
most rows that it reaches; one that reaches none gets no verdict.

Two ways to alarm without a reason are kept apart, and an alarm needs both to say no:

- **time:** the stretches' own spread, with Student's distribution for one more (Hahn and Meeker, Statistical Intervals,
  "prediction intervals"); the stretches that count are those that fit side by side;
- **chance:** what as many independent rows would do, however constant the stretches were.
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
# Spans of time that are looked at. None is under a day: the hours of a day have a rhythm that a part of it cannot show.
HOURS = (24, 48, 96, 168)
DAY = 24
ROWS = (100, 200, 500, 1000, 2500)  # and numbers of rows
DISJOINT = 8  # stretches that must fit into the known time at least: fewer do not tell what is usual
DRAWS = 64  # stretches that are looked at; they overlap where the time is short
FEW = 0.05  # share of the stretches that may cover fewer hours than are asked of a window


@dataclass(frozen=True)
class Learned:
    """All that is known of one distribution's stretches.

    Attributes:
        known: rows of the reference.
        cell: hours of a cell of ``hours_of``.
        entries: by span, then by rows.
    """

    known: int
    cell: float
    entries: tuple[Stretch, ...]

    @property
    def span(self) -> float:
        """The longest span in hours."""
        return max(entry.span for entry in self.entries)

    @property
    def rows(self) -> int:
        """The most rows."""
        return max(entry.rows for entry in self.entries)

    def fitting(self, rows: int, hours: float) -> Stretch | None:
        """Return what a window is judged by; None where it is too short or has too few rows."""
        reached = [entry for entry in self.entries if entry.rows <= rows and entry.hours <= hours]
        return max(reached, key=lambda entry: (entry.span, entry.rows), default=None)


def hours_of(times: Array, cell: float) -> float:
    """Return how many hours some rows cover, each hour counted by its share of the rows.

    The inverse of Simpson's index over cells of time, as Kish (1965, Survey Sampling) counts effective sizes: rows
    that come evenly cover all of their hours; a thousand in one hour and ten in the week before cover one.

    Args:
        times: ``(n,)`` seconds since the epoch.
        cell: hours that count as one.
    """
    if not len(times):
        return 0.0
    cells = ((times - times.min()) // (cell * HOUR)).astype(np.int64)
    shares = np.unique(cells, return_counts=True)[1] / len(cells)
    return float(cell / (shares**2).sum())


def whole_days(times: Array) -> int:
    """Return the place of the first row that belongs to the newest whole days, 0 of rows of less than a day.

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
    """Learn what is usual.

    Args:
        values: numbers or indices of categories; of rows with times in their order.
        summary: of all of them.
        times: ``(n,)`` seconds since the epoch, ascending; None where neighbours are not alike.
        loss: of the values of some rows, where these are errors.

    Returns:
        For the contract; None where the rows are too few.
    """
    chance = np.random.default_rng(0)
    cell = 1.0 if times is None else _cell(times)
    stretches = _draws(len(values), chance) if times is None else _stretches(times, cell, chance)
    entries = tuple(_entry(values, summary, loss, draws) for draws in stretches)
    if not entries:
        return None
    return Usual(len(values), cell, entries)


def read(usual: Usual | None) -> Learned | None:
    """Return what a contract tells of one distribution; of former versions too, whose stretches had no times.

    Such a one is judged by as many rows as its stretches had, over a day at least.
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
    """Return how probable a distance at least as large is where nothing drifts, by time or by chance alone."""
    by_time = _beyond(np.sqrt(distance(summary, values)) - usual.mean, usual.sd, usual)
    return max(by_time, chance_p(summary, values, learned.known)) if by_time < 0.5 else by_time


def limit(usual: Stretch, level: float) -> float:
    """Return the distance whose p-value by time is ``level``."""
    return float((usual.mean + stats.t.isf(level, _freedom(usual)) * usual.sd * _widened(usual)) ** 2)


def loss_limit(usual: Stretch, level: float) -> float | None:
    """Return the loss that is exceeded with probability ``level`` where nothing changed; None where nothing tells."""
    if usual.loss_mean is None or usual.loss_sd is None:
        return None
    return float(usual.loss_mean + stats.t.isf(level, _freedom(usual)) * usual.loss_sd * _widened(usual))


def _beyond(away: float, sd: float, usual: Stretch) -> float:
    return float(stats.t.sf(away / (sd * _widened(usual)), _freedom(usual))) if sd else float(away <= 0)


def _freedom(usual: Stretch) -> float:
    return max(1.0, usual.windows - 1)


def _widened(usual: Stretch) -> float:
    return float(np.sqrt(1 + 1 / usual.windows))


Drawn = tuple[float, float, float, int, list[tuple[Array, int]]]  # span, hours, windows, rows; of each rows and size


def _cell(times: Array) -> float:
    """An hour, or as far as the times are apart where that is more, such as a day."""
    steps = np.diff(np.unique(times))
    return max(1.0, float(np.median(steps)) / HOUR) if len(steps) else 1.0


def _stretches(times: Array, cell: float, chance: np.random.Generator) -> Iterator[Drawn]:
    total = (times[-1] - times[0]) / HOUR
    for span in HOURS:
        if span < cell or total < DISJOINT * span:
            continue
        lengths = span + DAY * chance.integers(span // DAY, size=DRAWS)  # what is no whole day has more of some hours
        starts = times[0] + np.linspace(0, 1, DRAWS) * (total - lengths) * HOUR
        ends = np.searchsorted(times, np.stack([starts, starts + lengths * HOUR]))
        inside = [np.arange(first, last) for first, last in ends.T if last - first >= ROWS[0]]
        covered = np.array([hours_of(times[stretch], cell) for stretch in inside])
        for rows in ROWS:
            enough = np.array([len(stretch) >= rows for stretch in inside], bool)
            if enough.sum() < DRAWS // 2:  # so many rows come in few stretches only
                break
            fitting = [stretch for stretch, long in zip(inside, enough, strict=True) if long]
            hours = float(np.quantile(covered[enough], FEW))
            drawn = [(np.sort(chance.choice(stretch, rows, replace=False)), len(stretch)) for stretch in fitting]
            yield span, hours, total / span, rows, drawn


def _draws(known: int, chance: np.random.Generator) -> Iterator[Drawn]:
    """Rows in no order: any of them are a stretch, of no time."""
    for rows in ROWS:
        if known >= max(2 * rows, DISJOINT * ROWS[0]):
            drawn = [(chance.choice(known, rows, replace=False), rows) for _ in range(4 * DRAWS)]
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
