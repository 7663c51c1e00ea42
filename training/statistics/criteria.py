"""The metric that decides between two versions; apart from its measurement, so that readers need not load torch."""

import math

import msgspec

from handlers.contract import Task
from handlers.contract.model_card import Decides, Evaluation

PRIMARY: dict[str, tuple[str, bool]] = {  # the metric of each task, and whether more of it is better
    "regression": ("rmse", False),
    "classification": ("accuracy", True),
    "generation": ("perplexity", False),
}
ERRORS = ("rmse", "mae", "perplexity", "cost")  # metrics of which less is better
METRICS = ("rmse", "mae", "perplexity", "accuracy", "precision", "recall", "f1", "auc", "recall_at_precision", "cost")


class Criterion(Decides, frozen=True):
    """The metric that decides which of two versions is better; a recipe names one where its task's does not fit.

    Accuracy does not fit rare events, ten in a thousand. A model that never finds one has 99.0 %, a model that finds
    all of them with twenty false alarms 98.0 %.

    Attributes:
        metric: ``rmse`` or ``mae`` for a regression. For a classification ``accuracy``, ``recall_at_precision``,
            ``cost``, or ``precision``, ``recall``, ``f1`` or ``auc``, of one label or the mean over the classes.
        label: the class that counts; empty for the mean over all.
        precision: least precision of ``recall_at_precision``.
        costs: matrix of ``cost``, a row for each true class, a column for each answer, in the order of the labels.
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
        """Name of the metric in an evaluation."""
        if self.metric == "recall_at_precision":
            return f"recall of {self.label} at precision {self.precision:g}"
        return f"{self.metric} of {self.label}" if self.label else self.metric

    @property
    def more(self) -> bool:
        """Tell whether more of it is better."""
        return more_is_better(self.metric)


def more_is_better(metric: str) -> bool:
    """Tell whether more of a deciding metric is better, by its name."""
    return metric.partition(" of ")[0] not in ERRORS


def criterion_of(task: Task, evaluation: Evaluation) -> Criterion:
    """Return the metric that decides by an evaluation: the one that its recipe named, else the task's."""
    named = evaluation.criterion
    return Criterion(PRIMARY[task][0]) if named is None else Criterion(*msgspec.structs.astuple(named))


def is_better(task: Task, challenger: Evaluation, champion: Evaluation) -> bool:
    """Tell whether the challenger is at least as good in the metric that decides; never where one lacks it."""
    by = criterion_of(task, challenger)
    a, b = (_value(evaluation, by.name) for evaluation in (challenger, champion))
    return a is not None and b is not None and (a >= b if by.more else a <= b)


def mean_ratio(challenger: Evaluation, champion: Evaluation) -> float | None:
    """Return the mean over the targets of a regression of the challenger's error divided by the champion's.

    It is None where the error of a target is not known of both, and infinite where only the champion has none.
    """
    name = criterion_of("regression", challenger).name
    names = [name, *(other for other in challenger.metrics if other.startswith(f"{name} of "))]
    ratios = []
    for target in names:
        a, b = (_value(evaluation, target) for evaluation in (challenger, champion))
        if a is None or b is None:
            return None
        ratios.append(a / b if b else 1.0 if a == b else math.inf)
    return sum(ratios) / len(ratios)


def deciding(task: Task, evaluation: Evaluation) -> float | None:
    """Return the value of the metric that decides; None where the rows of the evaluation did not tell it."""
    return _value(evaluation, criterion_of(task, evaluation).name)


def _value(evaluation: Evaluation, name: str) -> float | None:
    value = evaluation.metrics.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
