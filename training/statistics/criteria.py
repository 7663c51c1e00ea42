"""What decides between two versions; apart from what measures it, so that a reader of figures need not load torch."""

import math

import msgspec

from handlers.contract import Task
from handlers.contract.model_card import Decides, Evaluation

# The metric of each task, and whether more of it is better.
PRIMARY: dict[str, tuple[str, bool]] = {
    "regression": ("rmse", False),
    "classification": ("accuracy", True),
    "generation": ("perplexity", False),
}
ERRORS = ("rmse", "mae", "perplexity", "cost")  # metrics of which less is better
METRICS = ("rmse", "mae", "perplexity", "accuracy", "precision", "recall", "f1", "auc", "recall_at_precision", "cost")


class Criterion(Decides, frozen=True):
    """The metric that decides which of two versions is better; a recipe names one where its task's does not do.

    Of rare events accuracy decides for the model that never finds one: 99.0 % against 98.2 % for the one that finds all
    of ten in a thousand, with twenty false alarms.

    Attributes:
        metric: of a regression ``rmse`` or ``mae``; of a classification ``accuracy``, ``precision``, ``recall``, ``f1``
            or ``auc``, the mean over the classes or of one label, ``recall_at_precision``, or ``cost``.
        label: the class that is meant; empty for the mean over all.
        precision: that an answer must have at least, of ``recall_at_precision``.
        costs: of ``cost``, a row for each true class, a column for each answer, in the order of the labels.
    """

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"no metric {self.metric!r} decides; there are {', '.join(METRICS)}")
        if self.metric == "recall_at_precision" and not (self.label and 0 < self.precision <= 1):
            raise ValueError("recall_at_precision needs a label and a precision over 0, up to 1")
        if (self.metric == "cost") != bool(self.costs):
            raise ValueError("cost, and nothing else, needs costs")

    @property
    def name(self) -> str:
        """Of the metric among those of an evaluation."""
        if self.metric == "recall_at_precision":
            return f"recall of {self.label} at precision {self.precision:g}"
        return f"{self.metric} of {self.label}" if self.label else self.metric

    @property
    def more(self) -> bool:
        """Whether more of it is better."""
        return more_is_better(self.metric)


def more_is_better(metric: str) -> bool:
    """Tell whether more of a deciding metric is better, by its name."""
    return metric.partition(" of ")[0] not in ERRORS


def criterion_of(task: Task, evaluation: Evaluation) -> Criterion:
    """Return what decides between versions by an evaluation: what its recipe named, else the task's metric."""
    named = evaluation.criterion
    return Criterion(PRIMARY[task][0]) if named is None else Criterion(*msgspec.structs.astuple(named))


def is_better(task: Task, challenger: Evaluation, champion: Evaluation) -> bool:
    """Whether one evaluation is at least as good as another in the metric that decides; never where one lacks it."""
    by = criterion_of(task, challenger)
    a, b = (_value(evaluation, by) for evaluation in (challenger, champion))
    return a is not None and b is not None and (a >= b if by.more else a <= b)


def deciding(task: Task, evaluation: Evaluation) -> float | None:
    """The metric that decides, of an evaluation; None where its rows did not tell it."""
    return _value(evaluation, criterion_of(task, evaluation))


def _value(evaluation: Evaluation, by: Criterion) -> float | None:
    value = evaluation.metrics.get(by.name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
