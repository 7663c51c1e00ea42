"""Checks of captured rows: features and answer must be as the contract of their version has them."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handlers.contract import ModelContract, TensorSpec
from handlers.formats.tensors import limits
from handlers.observe.events import LONGEST_TEXT, is_sent_whole
from monitoring.store.contracts import output_fault
from monitoring.store.records import Prediction

_SHOWN = 60  # characters of a wrong value in a message


def data_fault(contract: ModelContract, features: Mapping[str, Any], output: Any) -> str | None:
    """Return what is wrong with a captured row, with its place below ``data``; None if nothing is."""
    specs = {spec.name: spec for spec in contract.inputs}
    if unknown := sorted(features.keys() - specs.keys()):
        return f"{unknown[0][:_SHOWN]!r} is no input of the model - at `features`"
    for name, spec in specs.items():
        if name not in features and not spec.nullable:
            return f"Expected {spec.describe()}, got nothing - at `features.{name}`"
        if (fault := _fault(spec, features.get(name))) is not None:
            return f"{fault[0]} - at `features.{name}{fault[1]}`"
    if expected := output_fault(contract, output):
        return f"Expected {expected} - at `output`"
    return None


def usable(contract: ModelContract, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the rows that can be compared with a contract: other versions, and former unchecked ones, may differ."""
    specs = {spec.name: spec for spec in contract.inputs}
    return [
        row
        for row in predictions
        if all(_fault(specs[name], value) is None for name, value in row.features.items() if name in specs)
        and (row.version != contract.version or output_fault(contract, row.output) is None)
    ]


def _fault(spec: TensorSpec, value: Any) -> tuple[str, str] | None:
    """Return what is wrong with the value of one input, and where in it."""
    if value is None and spec.nullable:
        return None
    if not is_sent_whole(spec):  # a worker captures their mean, and nothing of texts
        right = value is None if spec.datatype == "BYTES" else value is None or _is_mean(value)
        return None if right else (f"Expected the mean of {spec.describe()}, got {_shown(value)}", "")
    return _nested(spec, value, spec.shape[1:], "")


def _nested(spec: TensorSpec, value: Any, shape: tuple[int, ...], path: str) -> tuple[str, str] | None:
    if not shape:
        return None if _is_value(spec, value) else (f"Expected {spec.describe()}, got {_shown(value)}", path)
    if not isinstance(value, list) or len(value) != shape[0]:
        return f"Expected {spec.describe()}, got {_shown(value)}", path
    faults = (_nested(spec, item, shape[1:], f"{path}[{i}]") for i, item in enumerate(value))
    return next((fault for fault in faults if fault is not None), None)


def _is_value(spec: TensorSpec, value: Any) -> bool:
    """Return whether the handler would accept the value, and so have captured it."""
    if spec.datatype == "BYTES":
        is_text = isinstance(value, str) and len(value) <= LONGEST_TEXT
        return is_text and (not spec.categories or value in spec.categories)
    if spec.datatype == "BOOL":
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = limits(spec)
    if not spec.is_float:
        return low <= value <= high and float(value).is_integer()  # 8.0 is an integer to JSON
    if abs(value) > spec.number_limits[1]:
        return False
    least, rounded, most = np.array([low, value, high], spec.dtype)  # a worker captures 0.1 of FP32 as 0.10000000149
    return bool(least <= rounded <= most)


def _is_mean(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "an integer of many digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
