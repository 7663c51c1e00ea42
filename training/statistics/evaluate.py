"""Held-out metrics of a model and of the baselines that it must beat, by torchmetrics."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import torch
import torchmetrics
import torchmetrics.classification as classification
from msgspec.structs import replace
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from handlers.contract import Array, Task
from handlers.contract.model_card import Calibration, ClassMetrics, Evaluation, Lead, Metrics
from serving.documents import finite
from training.recipe import Data, Recipe, Split
from training.recipe.measured import Measured
from training.statistics.calibration import calibration, fit_temperature
from training.statistics.decisive import Scoring
from training.statistics.intervals import bootstrap
from training.statistics.targets import suffix_of


def evaluate(
    scoring: Scoring, split: Split, output: Array, baselines: Mapping[str, Array], temperature: float | None = None
) -> Evaluation:
    """Compare predictions with the truth.

    Args:
        split: the rows; each of its slices is also measured by itself.
        output: FP32 ``(n,)`` values, ``(n, targets)`` of several targets, or ``(n, classes)`` probabilities.
        baselines: name to output of the same form.
        temperature: fitted on validation rows of a classification; its effect is measured too.

        Returns:
            A metric that these rows do not tell is None, never NaN, without interval; ``unmeasured`` has the reason.
    """
    if scoring.targets:
        return _of_targets(scoring, split, output, baselines)
    standard, target, by = _standard(scoring.task), split.target, scoring.criterion

    def measure(values: Array, truth: Array) -> Metrics:
        metrics = standard(values, truth) | scoring.own(values, truth)
        if by.name not in metrics:
            metrics[by.name] = scoring.value(values, truth)
        return finite_metrics(metrics)

    def compare(rows: Any) -> Evaluation:
        metrics = measure(output[rows], target[rows])
        parts = {name: values[rows] for name, values in baselines.items()}
        sure = bootstrap(scoring, output[rows], target[rows], parts, None if split.time is None else split.time[rows])
        return Evaluation(
            rows=len(target[rows]),
            metrics=metrics,
            baselines={name: measure(values, target[rows]) for name, values in parts.items()},
            unmeasured=unmeasured(metrics, output[rows], target[rows]),
            intervals={name: ends for name, ends in sure.intervals.items() if metrics[name] is not None},
            gains={name: Lead(value, (low, high)) for name, (value, low, high) in sure.gains.items()},
        )

    evaluation = replace(compare(slice(None)), primary=by.name, criterion=scoring.decides)
    if scoring.task == "classification":
        counts = np.zeros((len(scoring.labels), len(scoring.labels)), int)
        np.add.at(counts, (target, output.argmax(1)), 1)
        evaluation = replace(
            evaluation,
            per_class=_per_class(torch.from_numpy(output), torch.from_numpy(target), scoring.labels),
            confusion=counts.tolist(),
            calibration=msgspec.convert(finite(calibration(output, target, temperature)), Calibration),
        )
    if split.slices is None:
        return evaluation
    names = dict.fromkeys(split.slices.tolist())
    return replace(evaluation, slices={str(name): compare(split.slices == name) for name in names})


def _of_targets(scoring: Scoring, split: Split, output: Array, baselines: Mapping[str, Array]) -> Evaluation:
    """Measure each target as if it were the only one, and put the figures together; the slices are of the first."""
    first, *others = (
        evaluate(
            dataclasses.replace(scoring, targets=()),
            dataclasses.replace(split, target=split.target[:, i], slices=None if i else split.slices),
            output[:, i],
            {name: values[:, i] for name, values in baselines.items()},
        )
        for i in range(len(scoring.targets))
    )
    whole = {field: dict(getattr(first, field) or {}) for field in ("metrics", "unmeasured", "intervals")}
    simple = {name: dict(metrics) for name, metrics in (first.baselines or {}).items()}
    for name, part in zip(scoring.targets[1:], others, strict=True):
        end = suffix_of(name)
        for field, figures in whole.items():
            figures |= {metric + end: value for metric, value in (getattr(part, field) or {}).items()}
        for baseline, metrics in (part.baselines or {}).items():
            simple[baseline] |= {metric + end: value for metric, value in metrics.items()}
    return replace(first, baselines=simple, **whole)


def held_out(model: Measured, data: Data, output: Array, watched: Array | None = None) -> Evaluation:
    """Evaluate a model beside its baselines.

    Args:
        output: for ``data.test``.
        watched: output of a classification for ``data.validation``; a temperature is fitted on it.

    Returns:
        As ``evaluate``, with ``held_out_since`` where feedback was held out.
    """
    test, baselines = data.test, model.baselines(data)
    temperature = None
    if model.task == "classification" and watched is not None and data.validation is not None:
        temperature = fit_temperature(watched, data.validation.target)
    evaluation = evaluate(model.scoring, test, output, baselines, temperature)
    return replace(evaluation, held_out_since=data.feedback.held_out_since) if data.feedback else evaluation


def learned(recipe: Recipe[Any], split: Split, output: Array) -> Evaluation:
    """Measure the standard metrics on the rows that a model learned from.

    Args:
        output: the served module's for these rows.
    """
    measured: Metrics = {}
    reasons: dict[str, str] = {}
    for i, name in enumerate(recipe.scoring.targets or [""]):
        answers, truth = (values[:, i] if name else values for values in (output, split.target))
        end = suffix_of(name) if i else ""
        metrics = finite_metrics(_standard(recipe.task)(answers, truth))
        measured |= {metric + end: value for metric, value in metrics.items()}
        reasons |= {metric + end: why for metric, why in unmeasured(metrics, answers, truth).items()}
    return Evaluation(rows=len(split), metrics=measured, unmeasured=reasons)


def finite_metrics(metrics: Mapping[str, float]) -> Metrics:
    """Replace metrics that could not be computed by None."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def unmeasured(metrics: Metrics, output: Array, target: Array) -> dict[str, str]:
    """Return by name why metrics could not be computed."""
    return {name: _why_not(name, output, target) for name, value in metrics.items() if value is None}


def _why_not(name: str, output: Array, target: Array) -> str:
    if not np.isfinite(output).all():
        return "the model answers NaN or infinity"
    if len(target) < 2:
        return f"{len(target)} rows are too few"
    if name in ("auc", "r2") and len(np.unique(target)) == 1:
        return "all rows have the same " + ("label" if name == "auc" else "truth")
    return "it is not defined for these rows"


def _standard(task: Task) -> Callable[[Array, Array], dict[str, float]]:
    measure = _classification if task == "classification" else _regression
    return lambda output, target: measure(torch.from_numpy(output), torch.from_numpy(target))


def _regression(output: Tensor, target: Tensor) -> dict[str, float]:
    output, target = output.double(), target.double()
    metrics = {"rmse": torchmetrics.MeanSquaredError(squared=False), "mae": torchmetrics.MeanAbsoluteError()}
    varied = bool((target != target[:1]).any())
    values = {name: float(metric.set_dtype(torch.float64)(output, target)) for name, metric in metrics.items()}
    r2 = torchmetrics.R2Score().set_dtype(torch.float64)
    return values | {"r2": float(r2(output, target)) if varied else math.nan}


def _classification(output: Tensor, target: Tensor) -> dict[str, float]:
    classes = output.shape[1]
    options: dict[str, Any] = {"num_classes": classes, "average": "macro"}
    metrics = {
        "accuracy": classification.MulticlassAccuracy(num_classes=classes, average="micro"),
        "precision": classification.MulticlassPrecision(**options),
        "recall": classification.MulticlassRecall(**options),
        "f1": classification.MulticlassF1Score(**options),
    }
    auc = float(_aucs(output, target).nanmean())
    return {name: float(metric(output, target)) for name, metric in metrics.items()} | {"auc": auc}


def _aucs(output: Tensor, target: Tensor) -> Tensor:
    """Return the AUC of each class against the others; NaN where either has no rows, as in a slice or in feedback."""
    counts = torch.bincount(target, minlength=output.shape[1])
    areas = torch.full((output.shape[1],), float("nan"))
    for i in torch.nonzero((counts > 0) & (counts < len(target)))[:, 0].tolist():
        areas[i] = binary_auroc(output[:, i], (target == i).int())
    return areas


def _per_class(output: Tensor, target: Tensor, labels: tuple[str, ...]) -> list[ClassMetrics]:
    options: dict[str, Any] = {"num_classes": len(labels), "average": "none"}
    columns = {
        "precision": classification.MulticlassPrecision(**options)(output, target),
        "recall": classification.MulticlassRecall(**options)(output, target),
        "f1": classification.MulticlassF1Score(**options)(output, target),
        "auc": _aucs(output, target),
    }
    rows = torch.bincount(target, minlength=len(labels))
    return [
        ClassMetrics(
            label, rows=int(rows[i]), **finite_metrics({name: column[i].item() for name, column in columns.items()})
        )
        for i, label in enumerate(labels)
    ]
