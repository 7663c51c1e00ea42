"""The difference between an exported file's answers and the program's."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from handlers.contract import Array, ModelContract, Task
from training.packaging.export import in_columns
from training.packaging.parity import TOLERANCE, largest_difference


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two outputs.

    Attributes:
        label_agreement: share of rows whose likeliest class is the same; of classifications only.
        max_relative_difference: relative to the value, or to the mean size of all values where this is larger; of
            regressions only.
    """

    max_abs_difference: float
    label_agreement: float | UnsetType = UNSET
    max_relative_difference: float | UnsetType = UNSET

    @property
    def is_rounding(self) -> bool:
        """Tell whether the difference is rounding: of probabilities, or relative to a regression's values."""
        worst = self.max_relative_difference
        return bool((self.max_abs_difference if worst is UNSET else worst) <= TOLERANCE)


def compare_batches(
    contract: ModelContract, expected: Sequence[Mapping[str, Array]], outputs: Sequence[Mapping[str, Array]]
) -> Difference:
    """Measure the difference of outputs, batch by batch; of tensors the largest of all, relative for values over 1."""
    names = contract.graph_outputs
    if contract.task != "tensors":
        whole = (np.concatenate([in_columns(batch, names) for batch in side]) for side in (expected, outputs))
        return compare(contract.task, *whole)
    pairs = [(own[name], right[name]) for own, right in zip(outputs, expected, strict=True) for name in names]
    worst = max(largest_difference(own, right, equal_nan=True) for own, right in pairs)
    return Difference(max_abs_difference=worst, max_relative_difference=worst)


def compare(task: Task, expected: Array, output: Array) -> Difference:
    """Measure the difference of two outputs.

    Args:
        expected: the program's, values ``(n,)`` or probabilities ``(n, classes)``.
    """
    difference = np.abs(output.astype(np.float64) - expected)
    largest = float(difference.max())
    if task == "classification":
        agreement = float((output.argmax(1) == expected.argmax(1)).mean())
        return Difference(max_abs_difference=largest, label_agreement=agreement)
    size = np.maximum(np.abs(expected), np.abs(expected).mean())
    return Difference(max_abs_difference=largest, max_relative_difference=float((difference / size).max()))
