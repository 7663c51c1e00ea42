"""Intervals of held-out metrics by the bootstrap (Efron 1979) over the rows that happened to be held out.

Rows with times are drawn in blocks of time (Künsch 1989): the flights of a windy day are one mishap, not nine hundred.
The interval of a share, such as an accuracy, is never narrower than that of as many independent rows. For 200 right
answers to 200 rows the bootstrap gives 100 % to 100 %, Wilson's interval 98.1 % to 100 %.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from scipy import stats

from handlers.contract import Array
from training.statistics.decisive import Scoring, score

RESAMPLES = 1000
AT_ONCE = 100  # resamples that are scored together: each takes a number a row
DAY = 86_400.0  # seconds
FEWEST_BLOCKS = 10
LEVEL = 0.95  # share of the resamples whose metric lies in the interval
Measure = Callable[[Array], dict[str, float]]  # indices of rows to metrics


class Margin(NamedTuple):
    """A model's advantage over a baseline on the same rows, and the ends of its interval."""

    value: float
    low: float
    high: float


class Bootstrap(NamedTuple):
    """The intervals of metrics.

    Attributes:
        intervals: lowest and highest value of each metric.
        gains: advantage over each baseline in the metric that decides; above 0 the model beats the baseline.
    """

    intervals: dict[str, tuple[float, float]]
    gains: dict[str, Margin]


def bootstrap(
    scoring: Scoring, output: Array, target: Array, baselines: Mapping[str, Array], times: Array | None = None
) -> Bootstrap:
    """Measure a model on many resamples of the rows.

    Args:
        output: FP32 ``(n,)`` values, or ``(n, classes)`` probabilities.
        target: ``(n,)`` values or class indices.
        baselines: name to output of the same form.
        times: ``(n,)`` seconds since the epoch; None where the order says nothing.

    Returns:
        Without the metrics that the rows do not tell, such as an AUC where they have one label only.
    """
    by, n, classifies = scoring.criterion, len(target), scoring.task == "classification"
    measure = (_classification if classifies else _regression)(output, target)
    blocks = None if times is None else blocks_of_time(times)
    outside = expanded((1 - LEVEL) / 2, n if blocks is None else len(blocks))
    draws: dict[str, list[float]] = {}
    for rows in _draws(n, blocks):
        for name, value in (measure(rows) | scoring.own(output[rows], target[rows])).items():
            draws.setdefault(name, []).append(value)
    own, *others = (_scores(scoring, values, target, blocks) for values in (output, *baselines.values()))
    draws.setdefault(by.name, own[1:].tolist())
    shares = of_shares(_confusion(output, target)) if classifies else {}
    intervals = {name: ends for name, values in draws.items() if (ends := _interval(values, outside))}
    gains = {}
    for name, scores in zip(baselines, others, strict=True):
        value, *drawn = (own - scores if by.more else scores - own).tolist()
        if (ends := _interval(drawn, outside)) and math.isfinite(value):
            gains[name] = Margin(value, *ends)
    unbounded = (by.name,) if by.metric == "cost" else ()  # no share
    wide = {name: ends if name in unbounded else wider(name, *ends, shares, n) for name, ends in intervals.items()}
    return Bootstrap(wide, gains)


def _draws(rows: int, blocks: list[Array] | None) -> Iterator[Array]:
    """Yield the rows of each resample, the same at every call."""
    random = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        if blocks is None:
            yield random.integers(rows, size=rows)
        else:
            yield np.concatenate([blocks[i] for i in random.integers(len(blocks), size=len(blocks))])


def _scores(scoring: Scoring, output: Array, target: Array, blocks: list[Array] | None) -> Array:
    """Return the metric that decides on all rows, then on each resample."""
    n = len(target)
    counts = chain([np.ones(n)], (np.bincount(rows, minlength=n).astype(np.float64) for rows in _draws(n, blocks)))
    scores = []
    while batch := list(islice(counts, AT_ONCE)):
        scores.append(score(scoring.criterion, scoring.labels, output, target, np.stack(batch)))
    return np.concatenate(scores)


def blocks_of_time(times: Array) -> list[Array]:
    """Return the places of each block's rows: a block is a day, or with fewer than ten days a tenth of the time."""
    since = times - times.min()
    length = min(DAY, max(float(since.max()) / FEWEST_BLOCKS, 1e-9))
    block = np.minimum(since // length, max(FEWEST_BLOCKS, np.ceil(since.max() / length)) - 1).astype(np.int64)
    order = np.argsort(block, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(block[order])) + 1)


def expanded(outside: float, blocks: int) -> float:
    """Lower the share outside one end of a percentile interval, as Student's distribution of ``blocks`` is wider.

    Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, "expanded percentile".
    """
    if blocks < 2:
        return outside
    return float(stats.norm.cdf(stats.t.ppf(outside, blocks - 1) * np.sqrt(blocks / (blocks - 1))))


def wilson(share: Array, rows: Array) -> tuple[Array, Array]:
    """Return Wilson's interval (1927) of shares; without rows it is everything from 0 to 1."""
    z = float(stats.norm.isf((1 - LEVEL) / 2))
    some = np.maximum(rows, 1e-9)
    middle = (share + z**2 / (2 * some)) / (1 + z**2 / some)
    half = z * np.sqrt(share * (1 - share) / some + z**2 / (4 * some**2)) / (1 + z**2 / some)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def of_shares(counts: Array) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric of a confusion matrix, if its rows were independent.

    The ends for a mean over classes combine those of the classes (MOVER, Zou and Donner 2008).

    Args:
        counts: ``(classes, classes)``, a row for each true class, a column for each answer.
    """
    right, true, voted = np.diagonal(counts), counts.sum(1), counts.sum(0)
    there = true + voted > 0
    intervals = {"accuracy": _mover(np.array([right.sum()]), np.array([counts.sum()]))}
    for name, rows in (("precision", voted), ("recall", true), ("f1", (true + voted) / 2)):
        intervals[name] = _mover(right[there], rows[there])
    return intervals


def wider(
    name: str, low: float, high: float, shares: Mapping[str, tuple[float, float]], rows: int
) -> tuple[float, float]:
    """Widen the bootstrap's interval of a share to that of as many independent rows.

    Args:
        name: the metric's.
        shares: as ``of_shares`` returns them; another metric is widened only where no resample differs at all.
        rows: number of rows, for a metric that is not in ``shares``.
    """
    if name in shares:
        ends = shares[name]
    elif low == high and low in (0.0, 1.0):
        ends = _mover(np.array([low * rows]), np.array([rows]))
    else:
        return low, high
    return min(low, ends[0]), max(high, ends[1])


def _mover(right: Array, rows: Array) -> tuple[float, float]:
    share = right / np.maximum(rows, 1)
    low, high = wilson(share, rows)
    there = rows > 0  # a class that is never answered, or has no rows, counts 0, as in the metric
    down, up = (np.sqrt((((end - share) * there) ** 2).sum()) / len(rows) for end in (low, high))
    return float(max(0.0, share.mean() - down)), float(min(1.0, share.mean() + up))


def _confusion(output: Array, target: Array) -> Array:
    classes = output.shape[1]
    return np.bincount(target * classes + output.argmax(1), minlength=classes**2).reshape(classes, classes)


def _interval(values: list[float], outside: float) -> tuple[float, float] | None:
    finite = [value for value in values if math.isfinite(value)]  # resamples that lack a class have none
    if not finite:
        return None
    low, high = np.quantile(finite, [outside, 1 - outside])
    return float(low), float(high)


def _regression(output: Array, target: Array) -> Measure:
    truth = target.astype(np.float64)
    error = output.astype(np.float64) - truth

    def measure(rows: Array) -> dict[str, float]:
        squared = float((error[rows] ** 2).mean())
        variance = float(truth[rows].var())
        r2 = 1 - squared / variance if variance else float("nan")
        return {"rmse": squared**0.5, "mae": float(np.abs(error[rows]).mean()), "r2": r2}

    return measure


def _classification(output: Array, target: Array) -> Measure:
    classes = output.shape[1]
    cells = target * classes + output.argmax(1)
    auc, influence = auc_with_influence(output, target)

    def measure(rows: Array) -> dict[str, float]:
        counts = np.bincount(cells[rows], minlength=classes**2).reshape(classes, classes)
        return {
            **{name: float(value) for name, value in of_confusion(counts).items()},
            "auc": float(np.clip(auc + influence[rows].mean(), 0, 1)),
        }

    return measure


def of_confusion(counts: Array) -> dict[str, Array]:
    """Return accuracy, and precision, recall and F1 as means over the classes with rows or answers, of each matrix.

    Args:
        counts: ``(…, classes, classes)``, a row for each true class, a column for each answer.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, voted = counts.sum(-1), counts.sum(-2)
    there = true + voted > 0
    each = {
        "precision": right / np.maximum(voted, 1),
        "recall": right / np.maximum(true, 1),
        "f1": 2 * right / np.maximum(true + voted, 1),
    }
    means = {name: (values * there).sum(-1) / there.sum(-1) for name, values in each.items()}
    return {"accuracy": right.sum(-1) / true.sum(-1), **means}


def auc_with_influence(output: Array, target: Array) -> tuple[float, Array]:
    """Return the mean AUC over the classes, and each row's addition to it when the row is drawn once more.

    The addition is of first order, as in DeLong et al. 1988: sorting every resample would take a hundred times as long.
    """
    from sklearn.metrics import roc_auc_score  # takes half a second, which a monitor need not wait before it serves

    areas, total = [], np.zeros(len(target))
    for k, scores in enumerate(output.T):
        positive = target == k
        if positive.all() or not positive.any():
            continue
        area = float(roc_auc_score(positive, scores))
        above, below = np.sort(scores[positive]), np.sort(scores[~positive])
        wins = np.where(positive, _share_below(below, scores), 1 - _share_below(above, scores))
        total += (wins - area) * np.where(positive, len(target) / len(above), len(target) / len(below))
        areas.append(area)
    return (float(np.mean(areas)), total / len(areas)) if areas else (float("nan"), total)


def _share_below(ordered: Array, scores: Array) -> Array:
    """Return the share of ordered values that each score exceeds; equal ones count half."""
    below: Array = (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2
    return below / len(ordered)
