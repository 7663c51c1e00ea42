"""Held-out metrics of a model and of the baselines that it must beat, by torchmetrics."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torchmetrics
import torchmetrics.classification as classification
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from handlers.contract import Task
from training.calibration import calibration, fit_temperature
from training.criteria import PRIMARY
from training.intervals import bootstrap
from training.recipe import Array, Data, Recipe, Split


def evaluate(
    task: Task,
    labels: tuple[str, ...],
    output: Array,
    target: Array,
    baselines: Mapping[str, Array],
    slices: Array | None = None,
    own: Callable[[Array, Array], dict[str, float]] = lambda output, target: {},
    temperature: float | None = None,
) -> dict[str, Any]:
    """Compare predictions with the truth.

    Args:
        task: of the model.
        labels: class names of a classification.
        output: FP32 ``(n,)`` values, or ``(n, classes)`` probabilities.
        target: ``(n,)`` values or class indices.
        baselines: name to output of the same form.
        slices: ``(n,)`` names; the rows of each name are also measured by themselves.
        own: more metrics of an output and a target.
        temperature: of a classification, fitted on validation rows: what it would change is measured too.

    Returns:
        ``rows``, ``primary`` (the metric that decides), ``metrics``, ``baselines`` (metrics by name), ``intervals`` and
        ``gains`` (see ``intervals.bootstrap``); for a classification ``per_class``, ``confusion`` (counts, a row for
        each true class, a column for each answer) and ``calibration``; with slices ``slices`` (by name, what is first
        named here, each measured by itself).
    """
    standard = _standard(task)

    def measure(values: Array, truth: Array) -> dict[str, float]:
        return standard(values, truth) | own(values, truth)

    def compare(rows: Any) -> dict[str, Any]:
        others = {name: measure(values[rows], target[rows]) for name, values in baselines.items()}
        found = {"rows": len(target[rows]), "metrics": measure(output[rows], target[rows]), "baselines": others}
        parts = {name: values[rows] for name, values in baselines.items()}
        return found | bootstrap(task, output[rows], target[rows], parts, own)

    evaluation = {"primary": PRIMARY[task][0]} | compare(slice(None))
    if task == "classification":
        evaluation["per_class"] = _per_class(torch.from_numpy(output), torch.from_numpy(target), labels)
        counts = np.zeros((len(labels), len(labels)), int)
        np.add.at(counts, (target, output.argmax(1)), 1)
        evaluation["confusion"] = counts.tolist()
        evaluation["calibration"] = calibration(output, target, temperature)
    if slices is not None:
        evaluation["slices"] = {str(name): compare(slices == name) for name in dict.fromkeys(slices.tolist())}
    return evaluation


def held_out(recipe: Recipe[Any], data: Data, output: Array, watched: Array | None = None) -> dict[str, Any]:
    """Evaluate a recipe's model beside the recipe's baselines.

    Args:
        recipe: of the model.
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
    found = evaluate(
        recipe.task, recipe.labels, output, test.target, baselines, test.slices, recipe.metrics, temperature
    )
    return found | ({"held_out_since": data.feedback["held_out_since"]} if data.feedback else {})


def learned(recipe: Recipe[Any], split: Split, output: Array) -> dict[str, Any]:
    """The standard metrics on the rows that a model learned from: ``rows`` and ``metrics``.

    Args:
        recipe: of the model.
        split: of these rows.
        output: of the served module for them.
    """
    return {"rows": len(split), "metrics": _standard(recipe.task)(output, split.target)}


def _standard(task: Task) -> Callable[[Array, Array], dict[str, float]]:
    found = _classification if task == "classification" else _regression
    return lambda output, target: found(torch.from_numpy(output), torch.from_numpy(target))


def _regression(output: Tensor, target: Tensor) -> dict[str, float]:
    output, target = output.double(), target.double()
    metrics = {
        "rmse": torchmetrics.MeanSquaredError(squared=False),
        "mae": torchmetrics.MeanAbsoluteError(),
        "r2": torchmetrics.R2Score(),
    }
    return {name: float(metric.set_dtype(torch.float64)(output, target)) for name, metric in metrics.items()}


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
        {"label": label} | {name: column[i].item() for name, column in columns.items()}
        for i, label in enumerate(labels)
    ]
