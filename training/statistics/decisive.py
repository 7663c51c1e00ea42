"""The metric that decides, of rows that count more or less: once for each draw of a bootstrap."""

import numpy as np

from handlers.contract import Array
from training.statistics.criteria import Criterion


def score(by: Criterion, labels: tuple[str, ...], output: Array, target: Array, weights: Array) -> Array:
    """Measure a classification.

    Args:
        by: the metric.
        labels: class names in the order of the output.
        output: ``(n, classes)`` probabilities.
        target: ``(n,)`` class indices.
        weights: ``(draws, n)`` how often each row counts.

    Returns:
        ``(draws,)``, NaN where the rows of a draw do not tell it.
    """
    answer = output.argmax(1)
    if by.metric == "accuracy":
        return _mean(answer == target, weights)
    if by.metric == "cost":
        return _mean(np.asarray(by.costs)[target, answer], weights)
    classes = [labels.index(by.label)] if by.label else range(len(labels))
    found = np.stack([_of_class(by, k, output, answer, target, weights) for k in classes])
    with np.errstate(invalid="ignore"):
        known = np.isfinite(found)
        return np.asarray(np.where(known, found, 0).sum(0) / known.sum(0))


def value(by: Criterion, labels: tuple[str, ...], output: Array, target: Array) -> float:
    """Measure rows that count once each; arguments as of ``score``."""
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
    """The share of pairs of a positive and a negative row in the right order; equal scores count half."""
    _, places = np.unique(scores, return_inverse=True)
    above, below = (_by_score(places, weights * one) for one in (positive, ~positive))
    under = np.cumsum(below, 1) - below / 2
    with np.errstate(invalid="ignore"):
        return np.asarray((above * under).sum(1) / (above.sum(1) * below.sum(1)))


def _recall_at(scores: Array, positive: Array, weights: Array, precision: float) -> Array:
    """The most recall of any threshold on the score whose precision is high enough; 0 where none is."""
    _, places = np.unique(-scores, return_inverse=True)
    found, false = (np.cumsum(_by_score(places, weights * one), 1) for one in (positive, ~positive))
    with np.errstate(invalid="ignore"):
        recall = found / found[:, -1:]
        enough = found >= precision * (found + false)
        return np.asarray(np.where(found[:, -1] > 0, np.where(enough, recall, 0).max(1), np.nan))


def _by_score(places: Array, weights: Array) -> Array:
    """The sums of the weights of equal scores: ``(draws, scores)``."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    return np.asarray(np.add.reduceat(weights[:, order], starts, axis=1))


def _mean(values: Array, weights: Array) -> Array:
    return np.asarray(weights @ values / weights.sum(1))
