"""The judge's evidence: losses of both versions' answers to the labelled rows, and the slices of the rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from handlers.contract import Array, ModelContract
from monitoring.retraining.judging.archived import Archived, Refusal
from monitoring.store.records import Label, Labelled, Prediction
from training.statistics.criteria import Criterion, criterion_of
from training.statistics.decisive import score
from training.statistics.labels import label_fault
from training.statistics.pair import Pair
from training.statistics.paired import Losses
from training.statistics.targets import Target, targets_of

MOST_CATEGORIES = 20  # of an input whose categories are slices
FEWEST_ROWS = 100  # of a slice


@dataclass(frozen=True)
class Evidence:
    """Labelled rows that the champion answers, with the losses of both versions.

    Attributes:
        predictions: the rows, in order of time.
        losses: one a row; NaN where the challenger refuses a row. Of several targets it is the mean over them, each
            relative to the spread of its labels.
        targets: by name, each of several targets' own losses, in its unit; empty where there is one.
        slices: by name, ``(n,)`` BOOL: which rows are in it.
        classes: by label of a classification, ``(n,)`` BOOL, also of labels with few rows or none.
        by: the metric that decides.
        unfit: why rows were left out that the champion refuses, or whose label it does not have.
        refused: why the challenger refuses rows.
    """

    predictions: Sequence[Prediction]
    losses: Losses
    targets: Mapping[str, Losses]
    slices: Mapping[str, Array]
    classes: Mapping[str, Array]
    by: Criterion
    unfit: Sequence[str]
    refused: Sequence[str]


def gather(versions: Pair[Archived], labelled: Sequence[Labelled]) -> Evidence:
    """Let both versions answer labelled rows.

    Slices are the categories of every input that has at most 20, and the labels of a classification. The share of right
    answers of a label is its recall. Each slice has at least 100 rows.

    Args:
        versions: their contracts have the same task and labels.
        labelled: rows in any order, answered by any version.
    """
    champion, challenger = versions
    contract = champion.contract
    rows = sorted(labelled, key=lambda row: (row.prediction.time, row.prediction.request_id, row.prediction.row))
    answers = champion.answers([row.prediction for row in rows])
    faults = [_fault(contract, row, answer) for row, answer in zip(rows, answers, strict=True)]
    fitting = [i for i, fault in enumerate(faults) if fault is None]
    rows, before = [rows[i] for i in fitting], [answers[i] for i in fitting]
    predictions = [row.prediction for row in rows]
    after = challenger.answers(predictions)
    by = criterion_of(contract.task, contract.evaluation)
    truth = np.array([row.label for row in rows], object)
    losses, targets = _both(contract, by, rows, Pair(before, after))
    return Evidence(
        predictions,
        losses,
        targets,
        dict(_slices(contract, rows)),
        {label: truth == label for label in contract.labels},
        by,
        [fault for fault in faults if fault is not None],
        [answer.why for answer in after if isinstance(answer, Refusal)],
    )


def _fault(contract: ModelContract, row: Labelled, answer: Any) -> str | None:
    if isinstance(answer, Refusal):
        return answer.why
    expected = label_fault(contract, row.label)
    return f"label {row.label!r}, expected {expected}" if expected else None


def metric_of(contract: ModelContract, by: Criterion) -> str:
    """Return the name of the metric that decides, as a verdict has it."""
    return f"{by.name} of {len(contract.outputs)} targets relative to their spread" if contract.has_targets else by.name


def _both(
    contract: ModelContract, by: Criterion, rows: Sequence[Labelled], both: Pair[Sequence[Any]]
) -> tuple[Losses, dict[str, Losses]]:
    """Return the loss of each row, with the deciding measure where that is no mean of losses, and those by target.

    A loss is 0 for a right and 1 for a wrong answer, a cost, or a squared or absolute difference.
    """
    rooted = by.metric == "rmse"
    each = {target.name: both.map(partial(_losses, target, by, rows)) for target in targets_of(contract)}
    if contract.has_targets:
        own = {name: Losses(champion=old, challenger=new, rooted=rooted) for name, (old, new) in each.items()}
        return _together(own, rows, rooted), own
    champion, challenger = losses = each[""]
    if contract.task != "classification" or by.metric in ("accuracy", "cost") or not np.isfinite(losses).all():
        return Losses(champion=champion, challenger=challenger, rooted=rooted), {}
    target = np.array([contract.labels.index(str(row.label)) for row in rows])
    outputs = [np.array([answer["probabilities"] for answer in answers]) for answers in both]

    def measure(weights: Array) -> Array:
        return 1 - np.stack([score(by, contract.labels, output, target, weights) for output in outputs], 1)

    return Losses(champion=champion, challenger=challenger, rooted=rooted, measure=measure), {}


def _together(targets: Mapping[str, Losses], rows: Sequence[Labelled], rooted: bool) -> Losses:
    """Return the mean over targets of their losses, each relative to the spread of the target's labels."""
    scales = [_spread([float(row.label[name]) for row in rows if isinstance(row.label, dict)]) for name in targets]
    units = np.array(scales)[:, None] ** (2 if rooted else 1)
    old, new = (np.array([getattr(own, who) for own in targets.values()]) for who in Pair._fields)
    return Losses(champion=(old / units).mean(0), challenger=(new / units).mean(0), rooted=rooted)


def _spread(labels: Sequence[float]) -> float:
    """Return the standard deviation of labels; where they are all alike their size, or 1."""
    if not labels:
        return 1.0
    spread, size = float(np.std(labels)), float(np.abs(labels).max())
    return spread if spread > 1e-9 * size else size or 1.0


def _losses(target: Target, by: Criterion, rows: Sequence[Labelled], answers: Sequence[Any]) -> Array:
    losses = [_loss(target, by, row.label, answer) for row, answer in zip(rows, answers, strict=True)]
    return np.array(losses, np.float64)


def _loss(target: Target, by: Criterion, label: Label, answer: Any) -> float:
    if isinstance(answer, Refusal):
        return math.nan
    if labels := target.contract.labels:
        if by.metric == "cost":
            return by.costs[labels.index(str(label))][labels.index(answer["label"])]
        return float(answer["label"] != label)
    difference = float(target.value(answer) - float(target.value(label)))
    return abs(difference) if by.metric == "mae" else difference**2


def _slices(contract: ModelContract, rows: Sequence[Labelled]) -> Iterator[tuple[str, Array]]:
    metric = "accuracy" if contract.task == "classification" else criterion_of(contract.task, contract.evaluation).name
    for spec in contract.inputs:
        if len(spec.categories) <= MOST_CATEGORIES:
            values = [row.prediction.features.get(spec.name) for row in rows]
            yield from _by_value(f"{metric} of {spec.name} ", values, spec.categories)
    yield from _by_value("recall of ", [row.label for row in rows], contract.labels)


def _by_value(name: str, values: Sequence[Any], possible: Sequence[str]) -> Iterator[tuple[str, Array]]:
    column = np.array(values, object)
    for value in possible:
        inside = column == value
        if inside.sum() >= FEWEST_ROWS:
            yield f"{name}{value}", inside
