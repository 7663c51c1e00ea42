"""Held-out metrics of a model and of the baselines that it must beat, by torchmetrics."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torchmetrics
import torchmetrics.classification as classification
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from handlers.contract import Array, Task
from serving.documents import finite
from training.recipe import Data, Recipe, Split
from training.statistics.calibration import calibration, fit_temperature
from training.statistics.criteria import PRIMARY, Criterion
from training.statistics.decisive import value
from training.statistics.intervals import bootstrap

Metrics = dict[str, float | None]  # by name; None where the rows do not tell


def evaluate(
    task: Task,
    labels: tuple[str, ...],
    output: Array,
    target: Array,
    baselines: Mapping[str, Array],
    slices: Array | None = None,
    own: Callable[[Array, Array], dict[str, float]] = lambda output, target: {},
    temperature: float | None = None,
    times: Array | None = None,
    by: Criterion | None = None,
) -> dict[str, Any]:
    """Compare predictions with the truth.

    Args:
        labels: class names of a classification.
        output: FP32 ``(n,)`` values, or ``(n, classes)`` probabilities.
        target: ``(n,)`` values or class indices.
        baselines: name to output of the same form.
        slices: ``(n,)`` names; the rows of each name are also measured by themselves.
        own: more metrics of an output and a target.
        temperature: of a classification, fitted on validation rows: what it would change is measured too.
        times: ``(n,)`` of the rows in seconds since the epoch; None where the order says nothing.
        by: what decides between versions; None: the task's metric.

    Returns:
        ``rows``, ``primary`` (the metric that decides, and ``criterion`` where a recipe named it), ``metrics``,
        ``baselines`` (metrics by name), ``intervals`` and ``gains`` (see ``intervals.bootstrap``). A metric that these
        rows do not tell is None, never NaN, has no interval, and ``unmeasured`` has the reason by its name. For a
        classification ``per_class``, ``confusion`` (counts, a row for each true class, a column for each answer) and
        ``calibration``; with slices ``slices`` (by name, what is first named here, each measured by itself).
    """
    standard = _standard(task)

    def measure(values: Array, truth: Array) -> Metrics:
        found = standard(values, truth) | own(values, truth)
        if by and by.name not in found and task == "classification":
            found[by.name] = value(by, labels, values, truth)
        return known(found)

    def compare(rows: Any) -> dict[str, Any]:
        others = {name: measure(values[rows], target[rows]) for name, values in baselines.items()}
        metrics = measure(output[rows], target[rows])
        found = {"rows": len(target[rows]), "metrics": metrics, "baselines": others}
        parts = {name: values[rows] for name, values in baselines.items()}
        when = None if times is None else times[rows]
        sure = bootstrap(task, output[rows], target[rows], parts, own, times=when)
        sure["intervals"] = {name: ends for name, ends in sure["intervals"].items() if metrics[name] is not None}
        return found | unmeasured(metrics, output[rows], target[rows]) | sure

    named = {"criterion": asdict(by)} if by else {}
    evaluation = {"primary": by.name if by else PRIMARY[task][0]} | named | compare(slice(None))
    if task == "classification":
        evaluation["per_class"] = _per_class(torch.from_numpy(output), torch.from_numpy(target), labels)
        counts = np.zeros((len(labels), len(labels)), int)
        np.add.at(counts, (target, output.argmax(1)), 1)
        evaluation["confusion"] = counts.tolist()
        evaluation["calibration"] = finite(calibration(output, target, temperature))
    if slices is not None:
        evaluation["slices"] = {str(name): compare(slices == name) for name in dict.fromkeys(slices.tolist())}
    return evaluation


def held_out(recipe: Recipe[Any], data: Data, output: Array, watched: Array | None = None) -> dict[str, Any]:
    """Evaluate a recipe's model beside the recipe's baselines.

    Args:
        data: with the held-out rows.
        output: for ``data.test``.
        watched: of a classification, the output for ``data.validation``: a temperature is fitted on it.

    Returns:
        As of ``evaluate``; where feedback was held out, also ``held_out_since``, the time of its first row: such
        figures say nothing beside those of other rows.
    """
    test, baselines = data.test, recipe.baselines(data)
    temperature = None
    if recipe.task == "classification" and watched is not None and data.validation is not None:
        temperature = fit_temperature(watched, data.validation.target)
    options = (test.slices, recipe.metrics, temperature, test.time, recipe.decides)
    found = evaluate(recipe.task, recipe.labels, output, test.target, baselines, *options)
    return found | ({"held_out_since": data.feedback["held_out_since"]} if data.feedback else {})


def learned(recipe: Recipe[Any], split: Split, output: Array) -> dict[str, Any]:
    """The standard metrics on the rows that a model learned from: ``rows`` and ``metrics``.

    Args:
        split: of these rows.
        output: of the served module for them.
    """
    metrics = known(_standard(recipe.task)(output, split.target))
    return {"rows": len(split), "metrics": metrics} | unmeasured(metrics, output, split.target)


def known(metrics: Mapping[str, float]) -> Metrics:
    """Metrics with None for those that could not be computed."""
    return {name: one if math.isfinite(one) else None for name, one in metrics.items()}


def unmeasured(metrics: Metrics, output: Array, target: Array) -> dict[str, dict[str, str]]:
    """Say why metrics could not be computed, under ``unmeasured``; nothing where all could."""
    reasons = {name: _why_not(name, output, target) for name, value in metrics.items() if value is None}
    return {"unmeasured": reasons} if reasons else {}


def _why_not(name: str, output: Array, target: Array) -> str:
    if not np.isfinite(output).all():
        return "the model answers NaN or infinity"
    if len(target) < 2:
        return f"{len(target)} rows are too few"
    if name in ("auc", "r2") and len(np.unique(target)) == 1:
        return "all rows have the same " + ("label" if name == "auc" else "truth")
    return "it is not defined for these rows"


def _standard(task: Task) -> Callable[[Array, Array], dict[str, float]]:
    found = _classification if task == "classification" else _regression
    return lambda output, target: found(torch.from_numpy(output), torch.from_numpy(target))


def _regression(output: Tensor, target: Tensor) -> dict[str, float]:
    output, target = output.double(), target.double()
    metrics = {"rmse": torchmetrics.MeanSquaredError(squared=False), "mae": torchmetrics.MeanAbsoluteError()}
    varied = bool((target != target[:1]).any())
    found = {name: float(metric.set_dtype(torch.float64)(output, target)) for name, metric in metrics.items()}
    r2 = torchmetrics.R2Score().set_dtype(torch.float64)
    return found | {"r2": float(r2(output, target)) if varied else math.nan}


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
    """Of each class against the others; not a number where either is not there: a slice, or feedback, may lack some."""
    counts = torch.bincount(target, minlength=output.shape[1])
    found = torch.full((output.shape[1],), float("nan"))
    for i in torch.nonzero((counts > 0) & (counts < len(target)))[:, 0].tolist():
        found[i] = binary_auroc(output[:, i], (target == i).int())
    return found


def _per_class(output: Tensor, target: Tensor, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"num_classes": len(labels), "average": "none"}
    columns = {
        "precision": classification.MulticlassPrecision(**options)(output, target),
        "recall": classification.MulticlassRecall(**options)(output, target),
        "f1": classification.MulticlassF1Score(**options)(output, target),
        "auc": _aucs(output, target),
        "rows": torch.bincount(target, minlength=len(labels)),
    }
    return [
        {"label": label} | known({name: column[i].item() for name, column in columns.items()})
        for i, label in enumerate(labels)
    ]
