"""Random values of a model's inputs: distributed as in training, and at the limits of the contract."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.contract.model_card import Summary
from handlers.contract.times import as_seconds
from handlers.formats.requests import native_member

Tensors = dict[str, Array]
LEAST_MISSING = 0.05  # share of a nullable input's values


def plausible(contract: ModelContract, rng: np.random.Generator, rows: int) -> Tensors:
    """Draw rows distributed as the contract's reference, feature by feature.

    Returns:
        One array an input, ``(rows, *shape[1:])``, as a client holds them: a category as its name.
    """
    return {
        spec.name: _with_missing(contract, spec, rng, _plausible(contract, spec, rng, rows)) for spec in contract.inputs
    }


def extreme(contract: ModelContract, rng: np.random.Generator, rows: int) -> Tensors:
    """Draw rows whose every value is the smallest or the largest that is accepted, or any of the categories."""
    return {spec.name: _extreme(contract, spec, rng, rows) for spec in contract.inputs}


def example_value(contract: ModelContract, spec: TensorSpec) -> Any:
    """Return the value of one input in the contract's example."""
    value = contract.example.request[native_member(contract, spec)]
    return as_seconds(value) if spec.timestamp else value


def _plausible(contract: ModelContract, spec: TensorSpec, rng: np.random.Generator, rows: int) -> Array:
    summary = contract.reference.inputs.get(spec.name, Summary())
    if spec.categories:
        return _categories(spec, rng, rows, summary.counts or {})
    if spec.datatype == "BOOL":
        return rng.integers(0, 2, (rows, *_sizes(contract, spec))).astype(bool)
    if spec.datatype == "BYTES":
        return _texts(contract, spec, rng, _drawn(rng, summary.numbers if summary.quantiles else [0.0], rows))
    example = _as_array(spec, example_value(contract, spec))
    example = np.nan_to_num(example) if spec.nullable else example
    quantiles = summary.numbers if summary.quantiles else np.array([float(example.mean(dtype=np.float64))])
    numbers = _drawn(rng, quantiles, rows)
    return _fit(contract, spec, numbers if spec.is_scalar else _scaled(example, numbers))


def _with_missing(contract: ModelContract, spec: TensorSpec, rng: np.random.Generator, values: Array) -> Array:
    """Leave out as many values of a nullable input as the reference lacks, but one in twenty at least."""
    if not spec.nullable:
        return values
    summary = contract.reference.inputs.get(spec.name, Summary()).missing
    present, missing = (summary and summary.counts or {"present": 1, "missing": 0}).values()
    gone = rng.random(len(values)) < max(LEAST_MISSING, missing / (present + missing))
    missing_value: Any = None if spec.datatype == "BYTES" else values.dtype.type(np.nan)
    return np.where(gone, missing_value, values)


def _sizes(contract: ModelContract, spec: TensorSpec) -> tuple[int, ...]:
    """Return the sizes of a row; where they vary, those of the example."""
    return _as_array(spec, example_value(contract, spec)).shape if spec.varies else spec.shape[1:]


def _drawn(rng: np.random.Generator, quantiles: Sequence[float] | Array, rows: int) -> Array:
    """Draw numbers of a distribution, from its evenly spaced quantiles."""
    return np.interp(rng.random(rows), np.linspace(0, 1, len(quantiles)), quantiles)


def _scaled(example: Array, means: Array) -> Array:
    """Scale the example's array to the means, by which the reference summarises arrays of several values."""
    base = example.astype(np.float64)
    mean = base.mean()
    # An example that is nearly zero throughout stays as it is.
    factors = np.clip(means / mean, 0.1, 10) if abs(mean) > 1e-9 else np.ones(len(means))
    return base * factors.reshape(-1, *[1] * base.ndim)


def _categories(spec: TensorSpec, rng: np.random.Generator, rows: int, counts: Mapping[str, int]) -> Array:
    weights = np.array([counts.get(name, 0) for name in spec.categories], np.float64)
    share = weights / weights.sum() if weights.sum() else None
    return np.array(spec.categories, object)[rng.choice(len(spec.categories), rows, p=share)]


def _texts(contract: ModelContract, spec: TensorSpec, rng: np.random.Generator, lengths: Array) -> Array:
    """Draw texts of these lengths from the example's words; the example itself without words or known lengths.

    An example that lacks the text has the default's words.
    """
    own = example_value(contract, spec)
    example = _as_array(spec, spec.default if own is None else own)
    words = str(example).split() if spec.is_scalar else []
    if not words or not lengths.any():
        return np.broadcast_to(example, (len(lengths), *example.shape))
    return np.array([_text(words, rng, int(length)) for length in lengths], object)


def _text(words: Sequence[str], rng: np.random.Generator, length: int) -> str:
    """Draw ``length`` characters of words in any order, one at least."""
    mean = 1 + sum(map(len, words)) / len(words)
    text = " ".join(rng.choice(words, int(length / mean) + 1))
    return text[: max(length, 1)].rstrip()


def _extreme(contract: ModelContract, spec: TensorSpec, rng: np.random.Generator, rows: int) -> Array:
    if spec.categories:
        return _categories(spec, rng, rows, {})
    if spec.datatype == "BYTES":
        lengths = contract.reference.inputs.get(spec.name, Summary()).numbers
        ends = [lengths.min(), lengths.max()] if len(lengths) else [0.0, 0.0]
        return _texts(contract, spec, rng, rng.choice(ends, rows))
    if spec.datatype == "BOOL":
        return _plausible(contract, spec, rng, rows)
    limits = np.array(_ends(contract, spec), np.float64)
    return _fit(contract, spec, limits[rng.integers(0, 2, (rows, *_sizes(contract, spec)))])


def _fit(contract: ModelContract, spec: TensorSpec, numbers: Array) -> Array:
    low, high = _ends(contract, spec)
    inside = np.clip(numbers, low, high)
    if not spec.is_float:
        return np.round(inside).astype(spec.dtype)
    values = inside.astype(spec.dtype)
    # The nearest number of few digits may lie just outside: 0.3 as FP32 is 0.30000001.
    values = np.where(values.astype(np.float64) > high, np.nextafter(values, values.dtype.type(low)), values)
    return np.where(values.astype(np.float64) < low, np.nextafter(values, values.dtype.type(high)), values)


def _ends(contract: ModelContract, spec: TensorSpec) -> tuple[float, float]:
    """Return the smallest and largest value that is sent: the contract's range, else that of the training data.

    A number without a range may be as large as its type, but no model is meant for such values.
    """
    low, high = spec.range if spec.range is not None else _reference_range(contract, spec)
    least, most = spec.number_limits
    if not spec.is_float:  # values are drawn as doubles, which hold all integers up to here
        least, most = max(least, -(2.0**53)), min(most, 2.0**53)
    return max(low, least), min(high, most)


def _reference_range(contract: ModelContract, spec: TensorSpec) -> tuple[float, float]:
    if spec.datatype in ("UINT8", "INT8"):  # all of a picture's values are usual
        info = np.iinfo(np.dtype(spec.dtype))
        return float(info.min), float(info.max)
    example = np.nan_to_num(_as_array(spec, example_value(contract, spec)).astype(np.float64))
    summary = contract.reference.inputs.get(spec.name, Summary()) if spec.is_scalar else Summary()
    quantiles = summary.numbers.tolist()
    return min([*quantiles, float(example.min())]), max([*quantiles, float(example.max())])


def _as_array(spec: TensorSpec, value: Any) -> Array:
    return np.array(value, spec.dtype)
