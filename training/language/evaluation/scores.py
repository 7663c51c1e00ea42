"""A task's metric document by document: its value, its standard error, and the difference of two models.

Two models answer the same documents, so the error of their difference is that of the documents' own differences: what
makes a document hard for both cancels out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from handlers.contract import Array
from handlers.contract.task_results import TaskResult, TaskScore

Scale = Literal["mean", "perplexity", "bits"]
LEVEL = 0.05  # probability, for all metrics together, that a model as good as the other counts as worse
ROUNDING = 1e-4  # relative difference that an engine's arithmetic makes: nothing is worse by as little

# Of the ratio of sums: the metric, and its derivative.
_METRICS: dict[Scale, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "mean": (lambda ratio: ratio, lambda ratio: 1.0),
    "perplexity": (lambda ratio: math.exp(-ratio), lambda ratio: math.exp(-ratio)),
    "bits": (lambda ratio: -ratio / math.log(2), lambda ratio: 1 / math.log(2)),
}


@dataclass(frozen=True)
class DocumentScores:
    """One metric of one task by one model.

    Attributes:
        higher_is_better: whether a higher value of the metric is better.
        sums: FP64 ``(n,)``, of each document: 1 for a right answer, or its log-likelihood.
        sizes: FP64 ``(n,)``, of each document: 1, or the words or bytes that the log-likelihood is of.
        scale: from the sums' share of the sizes to the metric: itself, exp of its negative, or its negative in bits.
    """

    task: str
    metric: str
    higher_is_better: bool
    sums: Array
    sizes: Array
    scale: Scale

    @property
    def ratio(self) -> float:
        """Sum of the sums, divided by that of the sizes."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def score(self) -> TaskScore:
        """The metric and its standard error, by the delta method; None for the error of a single document."""
        metric, derivative = _METRICS[self.scale]
        error = _ratio_error(self.sums, self.sizes)
        return TaskScore(metric(self.ratio), None if error is None else error * derivative(self.ratio))

    @property
    def rises(self) -> bool:
        """Whether a higher ratio is better: log-likelihoods always, other scores as the task says."""
        return self.higher_is_better or self.scale != "mean"


class Difference(NamedTuple):
    """The change from one model to another, in the unit of the ratio; above 0 the second is better.

    Attributes:
        stderr: None for a single document.
        rows: documents.
    """

    value: float
    stderr: float | None
    rows: int

    def is_worse(self, size: float, level: float = LEVEL) -> bool:
        """Tell whether the second model is worse beyond its error, by a one-sided t test.

        Args:
            size: of the first model's ratio.
            level: probability that equal models count as worse.
        """
        if self.stderr is None:
            return False
        quantile = float(stats.t.ppf(1 - level, self.rows - 1))
        return -self.value > max(quantile * self.stderr, ROUNDING * abs(size))


def difference(before: DocumentScores, after: DocumentScores) -> Difference:
    """Return the change of a metric on the same documents."""
    sums = after.sums - before.sums if before.rises else before.sums - after.sums
    return Difference(float(sums.sum() / before.sizes.sum()), _ratio_error(sums, before.sizes), len(sums))


def results_of(models: Mapping[str, Sequence[DocumentScores]], sha256: str) -> tuple[TaskResult, ...]:
    """Return each metric of each task by every model.

    Args:
        models: by name; all have run the same tasks.
        sha256: of the tasks' files.
    """
    first, *_ = models.values()
    return tuple(
        TaskResult(
            task=scores.task,
            metric=scores.metric,
            rows=len(scores.sums),
            higher_is_better=scores.higher_is_better,
            scores={name: own[i].score for name, own in models.items()},
            sha256=sha256,
        )
        for i, scores in enumerate(first)
    )


def worse(before: Sequence[DocumentScores], after: Sequence[DocumentScores], names: tuple[str, str]) -> list[str]:
    """Return in which metrics the second model is worse than the first, beyond its error, each a sentence.

    Args:
        names: of both models, for people.
    """
    found = []
    for old, new in zip(before, after, strict=True):
        change = difference(old, new)
        if change.is_worse(old.ratio, LEVEL / len(before)):
            first, second = (shown(scores.score) for scores in (old, new))
            found.append(
                f"{old.metric} of the task {old.task} is {second} with {names[1]} and {first} with {names[0]}, worse "
                f"beyond chance on the same {change.rows} documents"
            )
    return found


def shown(score: TaskScore) -> str:
    """Return a score with its standard error, as in ``0.7500 ± 0.1118``."""
    value = "–" if score.value is None else f"{score.value:.4f}"
    return value if score.stderr is None else f"{value} ± {score.stderr:.4f}"


def _ratio_error(sums: Array, sizes: Array) -> float | None:
    """Return the standard error of a ratio of sums (Cochran 1977, section 6.3); None for a single document."""
    n = len(sums)
    if n < 2:
        return None
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / sizes.sum())


class TaskTable(NamedTuple):
    """Each metric of each task as text, by every model that ran it."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


COLUMNS = {  # models as a contract names them, in the order of a table
    "float32": "float32",
    "tuned": "float32, fine-tuned",
    "champion": "champion",
    "served": "as served",
    "challenger": "challenger",
}


def task_table(results: Sequence[TaskResult]) -> TaskTable:
    """Return a table of results, with standard errors; all are of the same models."""
    models = [name for name in COLUMNS if any(name in result.scores for result in results)]
    head = ("task", "metric", "better is", "documents", *(COLUMNS[name] for name in models))
    rows = [
        (
            result.task,
            result.metric,
            "higher" if result.higher_is_better else "lower",
            f"{result.rows:,}",
            *(shown(result.scores[name]) if name in result.scores else "–" for name in models),
        )
        for result in results
    ]
    return TaskTable(head, rows)
