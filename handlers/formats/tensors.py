"""Checks on arrays that the wire formats share: datatype, shape, finite values, range, categories."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.contract import DTYPES, Array, TensorSpec
from handlers.contract.times import LIMITS, as_seconds
from handlers.features import positions_of
from handlers.formats.suggestions import closest_names
from handlers.json_io import EXACT, whole_number
from handlers.message import InputError, shorten

_MOST_DIMENSIONS = 32
NUMERIC = frozenset(DTYPES) - {"BOOL", "BYTES"}


def json_type(datatype: str, nullable: bool = False) -> Any:
    """Return the type of an element in JSON, which has one kind of number: a whole float counts as an integer."""
    if nullable:
        return json_type(datatype) | None
    if datatype in ("INT64", "UINT64"):  # a float could not hold every value
        info = np.iinfo(DTYPES[datatype])
        return whole_number(int(info.min), int(info.max))
    return {"BYTES": str, "BOOL": bool}.get(datatype, float)


def json_array(spec: TensorSpec, values: Any, path: str) -> Array:
    """Return nested lists of ``json_type`` as an array, without a check of their values.

    Raises:
        InputError: ragged lists, or an integer that no 64 bits hold.
    """
    dtype = {"BYTES": "O", "BOOL": "?", "INT64": "i8", "UINT64": "u8"}.get(spec.datatype, "f8")
    try:
        array = np.array(values, dtype)
    except OverflowError:
        raise InputError("out_of_range", f"{spec.name} does not fit {spec.datatype}", path, spec.describe()) from None
    except ValueError:
        raise _ragged(spec, path) from None
    # Ragged lists of strings raise nothing: they become an array of lists.
    if dtype == "O" and any(isinstance(value, list) for value in array.flat):
        raise _ragged(spec, path)
    return array


def to_tensor(spec: TensorSpec, values: Array, path: str) -> Array:
    """Return a client's values of any numeric type as ``spec.graph_dtype``, in the same shape.

    Args:
        values: shape ``(rows, *spec.shape[1:])``, already checked.
        path: JSON path of the array, to which the index of a fault is added.

    Raises:
        InputError: not finite, not whole for an integer type, out of the range or the type's limits, or no category.
    """
    if spec.categories:
        return category_index(spec, values.tolist(), path)
    if spec.timestamp and values.dtype == object:
        values = _seconds(spec, values.tolist(), path)
    if spec.nullable and spec.is_text:
        return np.where(values == "", np.array(None), values)
    if spec.datatype == "BYTES" or values.dtype == spec.dtype == np.bool_:
        return values
    _check_limits(spec, values, path)
    return values.astype(spec.dtype, copy=False)


def _seconds(spec: TensorSpec, values: Sequence[str | None], path: str) -> Array:
    """Return the seconds of each text; a missing one is null or empty."""
    seconds = []
    for i, text in enumerate(values):
        try:
            seconds.append(np.nan if spec.nullable and not text else as_seconds(text))
        except ValueError:
            raise InputError("wrong_type", f"{spec.name} is {text!r:.60}", f"{path}[{i}]", spec.describe()) from None
    return np.floor(seconds) if spec.datatype == "INT64" else np.array(seconds)


def category_index(spec: TensorSpec, values: Sequence[str | None], path: str) -> Array:
    """Return the INT64 index of each category; −1 for a missing one.

    Raises:
        InputError: a value that is no category; the closest are listed.
    """
    positions = positions_of(spec)
    try:
        return np.array([positions[value] for value in values], np.int64)
    except (KeyError, TypeError):
        row = next(i for i, value in enumerate(values) if not isinstance(value, str) or value not in positions)
        raise unknown_category(spec, str(values[row]), f"{path}[{row}]") from None


def unknown_category(spec: TensorSpec, value: str, path: str) -> InputError:
    """Return the error for a value that is no category, with the closest ones."""
    closest = closest_names(value, spec.categories)
    return InputError(
        "unknown_category",
        f"unknown {spec.name} {shorten(repr(value))}",
        path,
        f"one of {len(spec.categories)} categories, closest: {', '.join(closest)}",
    )


def fit_shape(spec: TensorSpec, shape: Sequence[int], path: str) -> tuple[int, ...]:
    """Return the contract's shape with as many rows as ``shape`` has.

    Ones at the end are ignored, since clients differ in them: a column of a table may come as ``[n, 1]``. Sizes that
    vary stay as they are.

    Raises:
        InputError: no rows, a size over the largest, or a shape that differs from the contract's by more than ones at
            its end.
    """
    if not _fits(spec, shape):
        most = f", at most {list(spec.max_shape)}" if spec.max_shape else ""
        raise InputError("wrong_shape", f"{spec.name} has shape {list(shape)}", path, f"shape {list(spec.shape)}{most}")
    if shape[0] < 1:
        raise InputError("empty", f"{spec.name} has {shape[0]} rows", path, "at least one row")
    return tuple(shape) if spec.varies else (shape[0], *spec.shape[1:])


def limits(spec: TensorSpec) -> tuple[float, float]:
    """Return the smallest and the largest value of a numeric tensor: its range, else that of its datatype."""
    dtype: Any = np.dtype(spec.dtype)
    if spec.range is not None:
        return spec.range
    if spec.timestamp:
        return LIMITS
    if dtype.kind == "b":
        return 0, 1
    if not spec.is_float:
        return spec.number_limits
    largest = dtype.type(spec.number_limits[1])
    # Its shortest text may read as slightly more: 3.4028235e38 is the largest FP32.
    high = max(float(largest), float(str(largest)))
    return -high, high


def check_axes(inputs: Sequence[TensorSpec], tensors: Mapping[str, Array], path: str) -> None:
    """Check that sizes of one name are equal.

    Raises:
        InputError: they are not, which the graph could not compute.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for spec in inputs:
        for axis, size in zip(spec.axes[1:], tensors[spec.name].shape[1:], strict=False):
            first, name = sizes.setdefault(axis, (size, spec.name))
            if size != first:
                fault = f"{spec.name} has {size} where {name} has {first}"
                raise InputError("wrong_shape", fault, path, f"the same size {axis} in {name} and {spec.name}")


def brain_bytes(values: Array) -> bytes:
    """Write numbers as bfloat16, the upper half of an FP32: the nearest, of two the even one."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, nearest).astype("<u2").tobytes()


def brain_numbers(blob: bytes) -> Array:
    """Read bfloat16 as FP32, which holds each of its values."""
    return (np.frombuffer(blob, "<u2").astype("<u4") << 16).view("<f4")


def _fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    if spec.varies:
        sizes = list(zip(shape[1:], spec.shape[1:], spec.largest, strict=False))
        return len(shape) == len(spec.shape) and all(
            own in (-1, size) and 1 <= size <= most for size, own, most in sizes
        )
    if len(shape) == len(spec.shape) and tuple(shape[1:]) == spec.shape[1:]:
        return True
    return 0 < len(shape) <= _MOST_DIMENSIONS and _without_ones(shape[1:]) == _without_ones(spec.shape[1:])


def _without_ones(sizes: Sequence[int]) -> tuple[int, ...]:
    stop = len(sizes)
    while stop and sizes[stop - 1] == 1:
        stop -= 1
    return tuple(sizes[:stop])


def _ragged(spec: TensorSpec, path: str) -> InputError:
    together = ", the same for all rows of a request" if spec.varies else ""
    return InputError("wrong_shape", f"{spec.name} is ragged", path, f"shape {list(spec.shape)}{together}")


def _check_limits(spec: TensorSpec, values: Array, path: str) -> None:
    low, high = limits(spec)
    if values.dtype == np.uint8 and low <= 0 and high >= 255:  # pixels, whose every value is inside
        return
    floating = values.dtype.kind == "f"
    whole = floating and np.dtype(spec.dtype).kind in "iu"
    if whole:
        low, high = max(low, -EXACT), min(high, EXACT)
    if floating:  # a limit too large for the array's type would become infinity
        values = values.astype(np.promote_types(values.dtype, spec.dtype), copy=False)
    # NaN fails both comparisons, infinity one of them, so that one pass finds all three faults.
    inside = (values >= low) & (values <= high)
    if spec.nullable and floating:
        inside |= np.isnan(values)
    if not inside.all():
        value, where = _first(~inside, values, path)
        code = "not_finite" if floating and not np.isfinite(value) else "out_of_range"
        expected = spec.describe()
        if code == "out_of_range" and whole and abs(float(value)) > EXACT:
            expected += ", which a float beyond 2**53 does not tell"
        raise InputError(code, f"{spec.name} is {value}", where, expected)
    if whole:
        fraction = values != np.floor(values)
        if fraction.any():
            value, where = _first(fraction, values, path)
            raise InputError("wrong_type", f"{spec.name} is {value}", where, spec.describe())


def _first(mask: NDArray[np.bool_], values: Array, path: str) -> tuple[np.generic, str]:
    index = np.unravel_index(int(np.argmax(mask)), mask.shape)
    return values[index], path + "".join(f"[{i}]" for i in index)
