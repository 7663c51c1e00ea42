"""How sure a held-out metric is: intervals by the bootstrap (Efron 1979) over the rows that happened to be held out."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from handlers.contract import Task

Array = NDArray[Any]
RESAMPLES = 1000
LEVEL = 0.95  # share of the resamples whose metric lies in the interval
Measure = Callable[[Array], dict[str, float]]  # of the rows with these indices


def bootstrap(
    task: Task,
    output: Array,
    target: Array,
    baselines: Mapping[str, Array],
    own: Callable[[Array, Array], dict[str, float]] = lambda output, target: {},
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a model on rows drawn anew, with replacement, again and again.

    Args:
        task: of the model.
        output: FP32 ``(n,)`` values, or ``(n, classes)`` probabilities.
        target: ``(n,)`` values or class indices.
        baselines: name to output of the same form.
        own: more metrics of an output and a target.
        seed: of the draws.

    Returns:
        ``intervals``: ``[low, high]`` of each metric; ``gains``: for each baseline the ``value`` and the ``interval``
        of how much better the model is in accuracy, or in RMSE, on the same rows: above 0 it beats the baseline. What
        the rows do not tell, such as an AUC where they have one label only, is left out.
    """
    measure = (_classification if task == "classification" else _regression)(output, target)
    gains = {name: _gain(task, output, values, target) for name, values in baselines.items()}
    random, n = np.random.default_rng(seed), len(target)
    draws: dict[str, list[float]] = {}
    better: dict[str, list[float]] = {name: [] for name in gains}
    for _ in range(RESAMPLES):
        rows = random.integers(n, size=n)
        for name, value in (measure(rows) | own(output[rows], target[rows])).items():
            draws.setdefault(name, []).append(value)
        for name, gain in gains.items():
            better[name].append(gain(rows))
    everything = np.arange(n)
    intervals = {name: _interval(values) for name, values in draws.items()}
    found = {name: (gain(everything), _interval(better[name])) for name, gain in gains.items()}
    return {
        "intervals": {name: interval for name, interval in intervals.items() if interval},
        "gains": {
            name: {"value": value, "interval": interval}
            for name, (value, interval) in found.items()
            if interval and math.isfinite(value)
        },
    }


def _interval(values: list[float]) -> list[float] | None:
    outside = (1 - LEVEL) / 2
    known = [value for value in values if math.isfinite(value)]  # without those of resamples that lack a class
    if not known:
        return None
    low, high = np.quantile(known, [outside, 1 - outside])
    return [float(low), float(high)]


def _gain(task: Task, output: Array, baseline: Array, target: Array) -> Callable[[Array], float]:
    """How much better the output is than a baseline in the metric that decides, on some rows."""
    if task == "classification":
        right = [values.argmax(1) == target for values in (output, baseline)]
        difference = right[0].astype(np.float64) - right[1]
        return lambda rows: float(difference[rows].mean())
    errors = [(values.astype(np.float64) - target) ** 2 for values in (baseline, output)]
    return lambda rows: float(np.sqrt(errors[0][rows].mean()) - np.sqrt(errors[1][rows].mean()))


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
    """Accuracy, and the means of precision, recall and F1 over the classes that are there, of each confusion matrix.

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
    """The mean AUC over the classes, and what each row adds to it when it is drawn once more.

    To first order, as in DeLong et al. 1988: sorting every resample anew would take a hundred times as long.
    """
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
    """The share of ordered values that each score exceeds; equal ones count half."""
    found: Array = (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / 2
    return found / len(ordered)
