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


class RowCheck:
    """Checks captured rows of one version; make it once for many rows.

    Args:
        contract: of the version.
    """

    def __init__(self, contract: ModelContract) -> None:
        self._contract = contract
        self._inputs = {spec.name: _Input(spec) for spec in contract.inputs}

    def fault(self, features: Mapping[str, Any], output: Any) -> str | None:
        """Return what is wrong with a row, with its place below ``data``; None if nothing is."""
        inputs = self._inputs
        if unknown := sorted(features.keys() - inputs.keys()):
            return f"{unknown[0][:_SHOWN]!r} is no input of the model - at `features`"
        for name, expected in inputs.items():
            if name not in features and not expected.spec.nullable:
                return f"Expected {expected.spec.describe()}, got nothing - at `features.{name}`"
            if (fault := expected.fault(features.get(name))) is not None:
                return f"{fault[0]} - at `features.{name}{fault[1]}`"
        if expected_output := output_fault(self._contract, output):
            return f"Expected {expected_output} - at `output`"
        return None


def usable(contract: ModelContract, predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the rows that can be compared with a contract: other versions, and former unchecked ones, may differ."""
    inputs = {spec.name: _Input(spec) for spec in contract.inputs}
    return [
        row
        for row in predictions
        if all(inputs[name].fault(value) is None for name, value in row.features.items() if name in inputs)
        and (row.version != contract.version or output_fault(contract, row.output) is None)
    ]


class _Input:
    """The values that one input may have, worked out before the first row."""

    def __init__(self, spec: TensorSpec) -> None:
        self.spec, self._sent_whole = spec, is_sent_whole(spec)
        self._categories = frozenset(spec.categories)
        self._is_number = spec.datatype not in ("BYTES", "BOOL")
        if self._is_number:
            self._is_float, (self._low, self._high), self._most = spec.is_float, limits(spec), spec.number_limits[1]

    def fault(self, value: Any) -> tuple[str, str] | None:
        """Return what is wrong with a value, and where in it; None if nothing is."""
        spec = self.spec
        if value is None and spec.nullable:
            return None
        if not self._sent_whole:  # a worker captures their mean, and nothing of texts
            right = value is None if spec.datatype == "BYTES" else value is None or _is_mean(value)
            return None if right else (f"Expected the mean of {spec.describe()}, got {_shown(value)}", "")
        return self._nested(value, spec.shape[1:], "")

    def _nested(self, value: Any, shape: tuple[int, ...], path: str) -> tuple[str, str] | None:
        if not shape:
            return None if self._has(value) else (f"Expected {self.spec.describe()}, got {_shown(value)}", path)
        if not isinstance(value, list) or len(value) != shape[0]:
            return f"Expected {self.spec.describe()}, got {_shown(value)}", path
        faults = (self._nested(item, shape[1:], f"{path}[{i}]") for i, item in enumerate(value))
        return next((fault for fault in faults if fault is not None), None)

    def _has(self, value: Any) -> bool:
        """Return whether the handler would accept the value, and so have captured it."""
        if self.spec.datatype == "BYTES":
            is_text = isinstance(value, str) and len(value) <= LONGEST_TEXT
            return is_text and (not self._categories or value in self._categories)
        if self.spec.datatype == "BOOL":
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self._is_float:
            return self._low <= value <= self._high and float(value).is_integer()  # 8.0 is an integer to JSON
        if abs(value) > self._most:
            return False
        if self._low <= value <= self._high:
            return True
        # A worker captures 0.1 of FP32 as 0.10000000149.
        least, rounded, most = np.array([self._low, value, self._high], self.spec.dtype)
        return bool(least <= rounded <= most)


def _is_mean(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "an integer of many digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
