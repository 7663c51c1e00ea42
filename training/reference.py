"""The contract's reference: what inputs and output looked like in training, small enough to travel in the archive."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from handlers.contract import ModelContract, TensorSpec
from training.recipe import Array, Data

QUANTILES = 257  # evenly spaced, both ends included: tests of drift compare a window with this sample


def reference(contract: ModelContract, data: Data, output: Array) -> dict[str, Any]:
    """Summaries of the training data.

    Args:
        contract: names the inputs and labels.
        data: whose training rows are summarised.
        output: the served module's output for these rows.

    Returns:
        ``rows``; ``inputs`` by name and ``output``, each ``{"quantiles": [...]}`` of numbers or ``{"counts": {...}}``
        of categories and labels. A tensor with more than one value a row is summarised by the mean of each row, a text
        by its number of characters.
    """
    lengths = {name: np.array([len(text) for text in texts]) for name, texts in data.train.texts.items()}
    values = {**data.train.inputs, **lengths}
    inputs = {spec.name: _summary(spec, values[spec.name]) for spec in contract.inputs}
    if contract.task == "classification":
        return {"rows": len(data.train), "inputs": inputs, "output": _counts(output.argmax(1), contract.labels)}
    return {"rows": len(data.train), "inputs": inputs, "output": _quantiles(output)}


def _summary(spec: TensorSpec, values: Array) -> dict[str, Any]:
    if spec.categories:
        return _counts(values, spec.categories)
    return _quantiles(values if spec.is_scalar else values.reshape(len(values), -1).mean(1))


def _quantiles(values: Array) -> dict[str, Any]:
    found = np.quantile(values.astype(np.float64), np.linspace(0, 1, QUANTILES))
    return {"quantiles": [float(f"{value:.6g}") for value in found]}


def _counts(indices: Array, names: Sequence[str]) -> dict[str, Any]:
    counts = np.bincount(indices, minlength=len(names))
    return {"counts": {name: int(count) for name, count in zip(names, counts, strict=True)}}
