"""A distribution in a few numbers, how far some rows are from it, and how far they usually are.

How far is told twice. The distance decides: of numbers the largest gap between the two cumulative shares, the statistic
of Kolmogorov and Smirnov; of categories the distance of Jensen and Shannon with logarithms to base 2. Both lie between
0, the same, and 1, nothing in common. The population stability index, PSI, is what many are used to.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

Array = NDArray[Any]
Summary = Mapping[str, Any]
QUANTILES = 257  # evenly spaced, both ends included
BINS = 10  # of a PSI of numbers, as many as the quantiles tell apart
WINDOW = 2500  # rows that are compared at once, at most; of flights about three days
DISJOINT = 8  # windows that must fit into the known rows at least: fewer do not tell what is usual
FEWEST = 100  # rows of a window at least
DRAWS = 64  # windows that what is usual is learned from; they overlap where the rows are few


def of_numbers(values: Array) -> dict[str, Any]:
    """The quantiles of some numbers."""
    found = np.quantile(values.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return {"quantiles": [float(f"{value:.6g}") for value in found]}


def of_categories(indices: Array, names: Sequence[str]) -> dict[str, Any]:
    """The count of each category, from their indices."""
    counts = np.bincount(indices, minlength=len(names))
    return {"counts": {name: int(count) for name, count in zip(names, counts, strict=True)}}


def name_of(summary: Summary) -> str:
    """The short name of the distance: ``ks`` or ``js``."""
    return "ks" if "quantiles" in summary else "js"


def distance(summary: Summary, values: Array) -> float:
    """How far some rows are from a summary.

    Args:
        summary: of ``of_numbers`` or ``of_categories``.
        values: ``(n,)`` numbers, or indices of categories; one past the last is a category that the summary lacks.
    """
    if "quantiles" in summary:
        return float(stats.ks_2samp(values, summary["quantiles"], method="asymp").statistic)
    known, found = _counts(summary, values)
    return float(np.nan_to_num(jensenshannon(known, found, base=2)))


def psi(summary: Summary, values: Array) -> float:
    """The population stability index; arguments as of ``distance``.

    Numbers are counted between the summary's deciles. Half a row is added to each bin, so that an empty one is no
    infinite surprise.
    """
    if "quantiles" in summary:
        quantiles = np.array(summary["quantiles"])
        edges = np.unique(quantiles[np.linspace(0, QUANTILES - 1, BINS + 1).round().astype(int)[1:-1]])
        known, found = (np.bincount(np.digitize(one, edges), minlength=len(edges) + 1) for one in (quantiles, values))
    else:
        known, found = _counts(summary, values)
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (known, found))
    return float(((q - p) * np.log(q / p)).sum())


def window_of(rows: int) -> int:
    """How many rows are compared at once where so many are known; 0 where these are too few."""
    window = min(WINDOW, rows // DISJOINT)
    return window if window >= FEWEST else 0


def usual(values: Array, summarise: Callable[[Array], Summary]) -> dict[str, float] | None:
    """How far a window of contiguous rows is from all other rows, where nothing drifts.

    Neighbours in time are alike, such as the flights of one windy day, so a window differs from the rest by more than
    a sample of independent rows would: formulas for such samples cry wolf.

    Args:
        values: numbers or indices of categories, in order of time, or in no order if neighbours are not alike.
        summarise: makes the summary of some of them.

    Returns:
        ``window`` (rows), ``windows`` (how many of them the rows hold side by side), ``mean`` and ``sd`` of the
        distance's square root, and ``psi``, which one window in a hundred exceeds; None where the rows are too few.
    """
    window = window_of(len(values))
    if not window:
        return None
    found = []
    for start in np.unique(np.linspace(0, len(values) - window, DRAWS).astype(int)):
        others = summarise(np.concatenate([values[:start], values[start + window :]]))
        inside = values[start : start + window]
        found.append((distance(others, inside), psi(others, inside)))
    distances, indices = np.array(found).T
    roots = np.sqrt(distances)
    figures = {
        "windows": len(values) / window,
        "mean": float(roots.mean()),
        "sd": float(roots.std(ddof=1)),
        "psi": float(np.quantile(indices, 0.99)),
    }
    return {"window": window} | {name: float(f"{value:.6g}") for name, value in figures.items()}


def p_value(learned: Mapping[str, float], found: float) -> float:
    """How probable a distance at least as large is where nothing drifts.

    The root of a distance is nearly symmetric, so that one more value follows Student's distribution around the known
    ones; it widens as it must where these are few (Hahn and Meeker, Statistical Intervals, "prediction intervals").
    """
    away = np.sqrt(found) - learned["mean"]
    if not learned["sd"]:
        return float(away <= 0)
    return float(stats.t.sf(away / _spread(learned), learned["windows"] - 1))


def limit(learned: Mapping[str, float], level: float) -> float:
    """The distance whose p-value is ``level``."""
    return float((learned["mean"] + stats.t.isf(level, learned["windows"] - 1) * _spread(learned)) ** 2)


def _spread(learned: Mapping[str, float]) -> float:
    return float(learned["sd"] * np.sqrt(1 + 1 / learned["windows"]))


def _counts(summary: Summary, values: Array) -> tuple[Array, Array]:
    known = np.array(list(summary["counts"].values()))
    found = np.bincount(values, minlength=len(known))
    return np.pad(known, (0, len(found) - len(known))), found
