"""The difference between an exported file's answers and the program's."""

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from handlers.contract import Array, Task
from training.packaging.parity import TOLERANCE


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
