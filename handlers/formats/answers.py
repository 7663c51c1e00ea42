"""The graph's outputs as the contract's: values of a regression, labels of a classification."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.message import InputError


def check_top_k(contract: ModelContract, top_k: int, path: str) -> int:
    """Refuse a ``top_k`` that the model cannot answer.

    Raises:
        InputError: it exceeds the labels, is less than one, or the model has no labels.
    """
    most = contract.most_classes
    if not 1 <= top_k <= most:
        expected = f"an integer from 1 to {most}" if most > 1 else "no top_k: this model has no classes"
        raise InputError("invalid_parameter", f"top_k is {top_k}", path, expected)
    return top_k


def output_arrays(contract: ModelContract, outputs: Mapping[str, Array], top_k: int) -> dict[str, Array]:
    """Return the contract's outputs of some rows.

    Args:
        outputs: of the graph; ``probabilities`` FP32 ``(n, classes)`` for a classification.
        top_k: classes a row; 1 for a regression.

    Returns:
        Arrays by output. A classification has ``label`` (strings), ``index`` INT64 and ``probability`` FP32, each
        ``(n, top_k)`` with the likeliest first, and ``probabilities``.
    """
    if contract.task != "classification":
        return dict(outputs)
    probabilities = outputs["probabilities"]
    # Of equal probabilities the first label goes first, in both ways.
    if top_k == 1:
        index = probabilities.argmax(axis=1)[:, None]
    else:
        index = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return {
        "label": np.array(contract.labels, object)[index],
        "index": index,
        "probability": np.take_along_axis(probabilities, index, axis=1),
        "probabilities": probabilities,
    }


def class_texts(contract: ModelContract, probabilities: Array, count: int) -> Array:
    """Return the likeliest classes in the form of the Open Inference Protocol's classification extension.

    Returns:
        ``(n, count)`` strings ``probability:index:label``, the likeliest first.
    """
    index = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    rows = zip(index.tolist(), probabilities, strict=True)
    return np.array([[f"{row[i]:f}:{i}:{contract.labels[i]}" for i in order] for order, row in rows], object)


def row_answers(contract: ModelContract, outputs: Mapping[str, Array], top_k: int) -> Any:
    """Return the answers of the native and v1 formats, one a row, for the JSON encoder.

    A regression gives an array of numbers, of several targets an object each. A classification gives
    ``{"label", "index", "probability"}`` of the likeliest class, and with ``top_k`` over 1 also ``"top_k"``, the list
    of such objects. Entities are a list of objects. Tensors give the value of the only output, or an object of several.
    """
    if contract.finds_entities:
        return _entities(outputs)
    if contract.task != "classification":
        return _named_values(contract, outputs)
    if top_k == 1:
        return _likeliest(contract.labels, outputs["probabilities"])
    arrays = output_arrays(contract, outputs, top_k)
    ranked = zip(arrays["label"], arrays["index"].tolist(), arrays["probability"], strict=True)
    rows = [
        [{"label": a, "index": b, "probability": c} for a, b, c in zip(*columns, strict=True)] for columns in ranked
    ]
    return [row[0] | {"top_k": row} for row in rows]


def _likeliest(labels: Sequence[str], probabilities: Array) -> list[dict[str, Any]]:
    """Return the likeliest class a row, the usual request, without sorting; of equal probabilities the first label."""
    index = probabilities.argmax(axis=1).tolist()
    return [
        {"label": labels[i], "index": i, "probability": row[i]} for i, row in zip(index, probabilities, strict=True)
    ]


def _entities(outputs: Mapping[str, Array]) -> list[list[dict[str, Any]]]:
    """Return the entities of each row, without those that fill shorter rows up."""
    columns = {name: array if name == "score" else array.tolist() for name, array in outputs.items()}
    rows = [
        [dict(zip(columns, values, strict=True)) for values in zip(*row, strict=True)]
        for row in zip(*columns.values(), strict=True)
    ]
    return [[entity for entity in row if entity["start"] >= 0] for row in rows]


def _named_values(contract: ModelContract, outputs: Mapping[str, Array]) -> Any:
    """Return the rows of tensors, as the JSON encoder takes them."""
    columns = {spec.name: outputs[spec.name] for spec in contract.outputs}
    values = {name: _encodable(array) for name, array in columns.items()}
    (first, *others) = values.values()
    if not others:
        return first
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _encodable(array: Array) -> Any:
    """Return strings, and single values that are no floats, as a list: of these the encoder takes arrays alone."""
    return array.tolist() if array.dtype == object or (array.ndim == 1 and array.dtype.kind != "f") else array
