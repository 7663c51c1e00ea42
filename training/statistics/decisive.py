"""The metric that decides, on weighted rows: once for each draw of a bootstrap."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from handlers.contract import Array, Task
from training.statistics.criteria import PRIMARY, Criterion

ERRORS_OF_VALUES = ("rmse", "mae")


@dataclass(frozen=True)
class Scoring:
    """The metrics of a model's answers.

    Attributes:
        labels: class names of a classification, in the order of the output.
        decides: the metric that decides; None for the task's.
        own: function of output and target to more metrics, of the first of several targets.
        targets: names of the targets of a regression that has several; the first decides.
    """

    task: Task
    labels: tuple[str, ...] = ()
    decides: Criterion | None = None
    own: Callable[[Array, Array], dict[str, float]] = lambda output, target: {}
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        by = self.criterion
        if (by.metric in ERRORS_OF_VALUES) != (self.task == "regression"):
            raise ValueError(f"{by.metric} cannot decide between versions of a {self.task}")
        if by.label and by.label not in self.labels:
            raise ValueError(f"no label {by.label!r} for {by.name}; there are {', '.join(self.labels)}")

    @property
    def criterion(self) -> Criterion:
        """The metric that decides."""
        return self.decides or Criterion(PRIMARY[self.task][0])

    @property
    def key(self) -> str:
        """Digest of the metric that decides; empty where it is the task's, as before recipes could name one."""
        if self.criterion == Criterion(PRIMARY[self.task][0]):
            return ""
        return hashlib.sha256(msgspec.json.encode(self.criterion)).hexdigest()[:16]

    def value(self, output: Array, target: Array) -> float:
        """Measure the metric that decides; NaN where the rows do not tell it."""
        return value(self.criterion, self.labels, output, target)

    def require(self, target: Array, rows: str) -> None:
        """Check that rows tell the metric that decides.

        Args:
            target: the rows' truth.
            rows: the rows' name, such as ``held-out``.

        Raises:
            ValueError: they do not, such as an AUC where all have the same label.
        """
        perfect = np.eye(len(self.labels))[target] if self.task == "classification" else target
        if not np.isfinite(self.value(perfect, target)):
            name = self.criterion.name
            raise ValueError(f"the {len(target):,} {rows} rows do not tell the metric that decides, {name}")


def score(by: Criterion, labels: tuple[str, ...], output: Array, target: Array, weights: Array) -> Array:
    """Measure a model.

    Args:
        labels: class names of a classification, in the order of the output.
        output: ``(n,)`` values of a regression, ``(n, targets)`` of several targets, of which the first decides;
            ``(n, classes)`` probabilities of a classification.
        target: ``(n,)`` or ``(n, targets)`` values, or class indices.
        weights: ``(draws, n)`` count of each row.

    Returns:
        ``(draws,)``, NaN where the rows of a draw do not tell it.
    """
    if by.metric in ERRORS_OF_VALUES:
        output, target = (values[:, 0] if values.ndim > 1 else values for values in (output, target))
        error = output.astype(np.float64) - target
        return np.sqrt(_mean(error**2, weights)) if by.metric == "rmse" else _mean(np.abs(error), weights)
    answer = output.argmax(1)
    if by.metric == "accuracy":
        return _mean(answer == target, weights)
    if by.metric == "cost":
        return _mean(np.asarray(by.costs)[target, answer], weights)
    classes = [labels.index(by.label)] if by.label else range(len(labels))
    scores = np.stack([_of_class(by, k, output, answer, target, weights) for k in classes])
    with np.errstate(invalid="ignore"):
        defined = np.isfinite(scores)
        return np.asarray(np.where(defined, scores, 0).sum(0) / defined.sum(0))


def value(by: Criterion, labels: tuple[str, ...], output: Array, target: Array) -> float:
    """Measure rows that count once each; arguments as for ``score``."""
    return float(score(by, labels, output, target, np.ones((1, len(target))))[0])


def _of_class(by: Criterion, k: int, output: Array, answer: Array, target: Array, weights: Array) -> Array:
    if by.metric == "auc":
        return _auc(output[:, k], target == k, weights)
    if by.metric == "recall_at_precision":
        return _recall_at(output[:, k], target == k, weights, by.precision)
    right = weights @ ((answer == k) & (target == k))
    voted, true = weights @ (answer == k), weights @ (target == k)
    with np.errstate(invalid="ignore", divide="ignore"):
        if by.metric == "recall":
            return np.asarray(right / true)
        if by.metric == "precision":
            return np.asarray(np.where(voted > 0, right / voted, np.where(true > 0, 0.0, np.nan)))
        return np.asarray(2 * right / (voted + true))


def _auc(scores: Array, positive: Array, weights: Array) -> Array:
    """Return the share of pairs of a positive and a negative row in the right order; equal scores count half."""
    _, places = np.unique(scores, return_inverse=True)
    above, below = (_by_score(places, weights * members) for members in (positive, ~positive))
    under = np.cumsum(below, 1) - below / 2
    with np.errstate(invalid="ignore"):
        return np.asarray((above * under).sum(1) / (above.sum(1) * below.sum(1)))


def _recall_at(scores: Array, positive: Array, weights: Array, precision: float) -> Array:
    """Return the highest recall of a threshold on the score whose precision is high enough; 0 without such."""
    _, places = np.unique(-scores, return_inverse=True)
    hits, false = (np.cumsum(_by_score(places, weights * members), 1) for members in (positive, ~positive))
    with np.errstate(invalid="ignore"):
        recall = hits / hits[:, -1:]
        enough = hits >= precision * (hits + false)
        return np.asarray(np.where(hits[:, -1] > 0, np.where(enough, recall, 0).max(1), np.nan))


def _by_score(places: Array, weights: Array) -> Array:
    """Sum the weights of equal scores: ``(draws, scores)``."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _mean(values: Array, weights: Array) -> Array:
    with np.errstate(invalid="ignore"):  # an infinite error in a row that does not count
        return np.asarray(weights @ values / weights.sum(1))
