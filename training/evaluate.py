"""Held-out metrics of a model and of the baselines that it must beat, by torchmetrics."""

from collections.abc import Mapping
from typing import Any

import torch
import torchmetrics
import torchmetrics.classification as classification
from torch import Tensor

from handlers.contract import Task
from training.recipe import Array

# The metric that decides between two versions, and whether more of it is better.
PRIMARY: dict[str, tuple[str, bool]] = {"regression": ("rmse", False), "classification": ("accuracy", True)}


def evaluate(
    task: Task, labels: tuple[str, ...], output: Array, target: Array, baselines: Mapping[str, Array]
) -> dict[str, Any]:
    """Compare predictions with the truth.

    Args:
        task: of the model.
        labels: class names of a classification.
        output: FP32 ``(n,)`` values, or ``(n, classes)`` probabilities.
        target: ``(n,)`` values or class indices.
        baselines: name to output of the same form.

    Returns:
        ``rows``, ``primary`` (the metric that decides), ``metrics``, ``baselines`` (metrics by name), and for a
        classification ``per_class``.
    """
    measure = _classification if task == "classification" else _regression
    truth = torch.from_numpy(target)
    evaluation = {
        "rows": len(target),
        "primary": PRIMARY[task][0],
        "metrics": measure(torch.from_numpy(output), truth),
        "baselines": {name: measure(torch.from_numpy(values), truth) for name, values in baselines.items()},
    }
    if task == "classification":
        evaluation["per_class"] = _per_class(torch.from_numpy(output), truth, labels)
    return evaluation


def is_better(task: Task, challenger: Mapping[str, Any], champion: Mapping[str, Any]) -> bool:
    """Whether one evaluation is at least as good as another in the metric that decides."""
    name, more = PRIMARY[task]
    a, b = challenger["metrics"][name], champion["metrics"][name]
    return bool(a >= b if more else a <= b)


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
        "auc": classification.MulticlassAUROC(**options),
    }
    return {name: float(metric(output, target)) for name, metric in metrics.items()}


def _per_class(output: Tensor, target: Tensor, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    options: dict[str, Any] = {"num_classes": len(labels), "average": "none"}
    columns = {
        "precision": classification.MulticlassPrecision(**options)(output, target),
        "recall": classification.MulticlassRecall(**options)(output, target),
        "f1": classification.MulticlassF1Score(**options)(output, target),
        "auc": classification.MulticlassAUROC(**options)(output, target),
        "rows": torch.bincount(target, minlength=len(labels)),
    }
    return [
        {"label": label} | {name: column[i].item() for name, column in columns.items()}
        for i, label in enumerate(labels)
    ]
