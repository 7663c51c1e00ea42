"""Rows of scalar features that are decoded and checked, and become one array a feature and batch.

Arrays of a single row take as long to make as arrays of dozens.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from handlers.contract import Array, TensorSpec

_LATE = "UINT64"  # decoding does not fully check scalars of this datatype


class Features:
    """Makes arrays of a model's features; all its inputs are scalars."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        names = [spec.name for spec in inputs]
        self._values: Callable[[Any], Any] = attrgetter(*names)
        self._single = len(names) == 1
        self._columns = [(spec.name, spec.graph_dtype, _positions(spec)) for spec in inputs]

    @staticmethod
    def fit(inputs: Sequence[TensorSpec]) -> bool:
        """Tell whether every input is a scalar that decoding fully checks."""
        return all(spec.is_scalar and spec.datatype != _LATE for spec in inputs)

    def tensors(self, rows: Iterable[Any]) -> dict[str, Array]:
        """Return graph tensors by feature, of objects that have the features as attributes."""
        values = map(self._values, rows)
        columns: Iterable[Sequence[Any]] = [list(values)] if self._single else zip(*values, strict=True)
        return {
            name: _array(column, dtype, positions)
            for (name, dtype, positions), column in zip(self._columns, columns, strict=True)
        }


class FeatureRows(NamedTuple):
    """The rows of one request."""

    features: Features
    rows: Sequence[Any]


def stack(requests: Sequence[FeatureRows | dict[str, Array]]) -> dict[str, Array]:
    """Return the graph tensors of several requests to one model, rows in their order."""
    first = requests[0]
    rows = [request.rows for request in requests if isinstance(request, FeatureRows)]
    if isinstance(first, FeatureRows) and len(rows) == len(requests):
        return first.features.tensors(chain.from_iterable(rows))
    parts = [as_tensors(request) for request in requests]
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def as_tensors(request: FeatureRows | dict[str, Array]) -> dict[str, Array]:
    """Return the graph tensors of one request."""
    return request.features.tensors(request.rows) if isinstance(request, FeatureRows) else request


def _positions(spec: TensorSpec) -> dict[str, int] | None:
    return {category: i for i, category in enumerate(spec.categories)} or None


def _array(column: Sequence[Any], dtype: DTypeLike, positions: dict[str, int] | None) -> Array:
    return np.array(column if positions is None else [positions[value] for value in column], dtype)
