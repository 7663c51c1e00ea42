"""Rows of scalar features that are decoded and checked, and become one array a feature and batch.

Arrays of a single row take as long to make as arrays of dozens.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from handlers.contract import Array, TensorSpec
from handlers.contract.times import as_text

_LATE = "UINT64"  # decoding does not fully check scalars of this datatype


class Features:
    """Makes arrays of a model's features; all its inputs are scalars."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        names = [spec.name for spec in inputs]
        self._values: Callable[[Any], Any] = attrgetter(*names)
        self._single = len(names) == 1
        self._columns = [(spec.name, spec.graph_dtype, _conversion(spec)) for spec in inputs]

    @staticmethod
    def fit(inputs: Sequence[TensorSpec]) -> bool:
        """Tell whether every input is a scalar that decoding fully checks, and needs no other form."""
        return all(spec.is_scalar and spec.datatype != _LATE and not spec.timestamp for spec in inputs)

    def tensors(self, rows: Iterable[Any]) -> dict[str, Array]:
        """Return graph tensors by feature, of objects that have the features as attributes."""
        values = map(self._values, rows)
        columns: Iterable[Sequence[Any]] = [list(values)] if self._single else zip(*values, strict=True)
        return {
            name: _array(column, dtype, convert)
            for (name, dtype, convert), column in zip(self._columns, columns, strict=True)
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


def positions_of(spec: TensorSpec) -> Mapping[str | None, int]:
    """Return the index of each category; −1 for a missing one, which is an empty string where a format has no null."""
    missing: dict[str | None, int] = {None: -1, "": -1} if spec.nullable and spec.categories else {}
    return missing | {category: i for i, category in enumerate(spec.categories)}


def text_or_none(text: str | None) -> str | None:
    """Return the text of a nullable input; None for an empty one, which some formats have in place of null."""
    return text or None


def all_missing(spec: TensorSpec, rows: int) -> Array:
    """Return the values of a nullable input that a request lacks."""
    value: Any = -1 if spec.categories else None if spec.is_text else np.nan
    return np.full(rows, value, spec.graph_dtype)


def is_missing(values: Array) -> NDArray[np.bool_]:
    """Tell which values of a nullable input are missing: NaN, None of a text, or the index −1 of a category."""
    if values.dtype == object:
        return np.array([value is None for value in values.tolist()], np.bool_)
    return np.isnan(values) if values.dtype.kind == "f" else values < 0


def defaults_of(inputs: Iterable[TensorSpec]) -> dict[str, float | str]:
    """Return what a graph gets for missing values, by the inputs that have a default: of a category its index."""
    return {spec.name: _default(spec, spec.default) for spec in inputs if spec.default is not None}


def _default(spec: TensorSpec, default: float | str) -> float | str:
    return spec.categories.index(str(default)) if spec.categories else default


def filled(tensors: Mapping[str, Array], defaults: Mapping[str, float | str]) -> dict[str, Array]:
    """Return tensors with the defaults in place of missing values."""
    own = {name: tensors[name] for name in defaults}
    return dict(tensors) | {
        name: np.where(is_missing(values), np.array(defaults[name], values.dtype), values)
        for name, values in own.items()
    }


def as_sent(spec: TensorSpec, values: Array) -> list[Any]:
    """Return values of a graph tensor as clients send them: names of categories, texts of times, None for missing."""
    sent = [spec.categories[i] for i in values.tolist()] if spec.categories else values.tolist()
    if spec.nullable:
        sent = [None if missing else value for value, missing in zip(sent, is_missing(values), strict=True)]
    return [None if value is None else as_text(value) for value in sent] if spec.timestamp else sent


def _conversion(spec: TensorSpec) -> Callable[[Any], Any] | None:
    """Return what makes a graph's value of a client's; None where they are the same."""
    if spec.categories:
        return positions_of(spec).__getitem__
    return text_or_none if spec.nullable and spec.is_text else None


def _array(column: Sequence[Any], dtype: DTypeLike, convert: Callable[[Any], Any] | None) -> Array:
    # NumPy reads None as NaN.
    return np.array(column if convert is None else [*map(convert, column)], dtype)
